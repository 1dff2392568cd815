"""What intensities say about a channel, and that a mask reaches the network whatever the normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.volumes import make_plan
from voxward.core.case import Volume
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelFingerprint, ChannelPlan, Intensities
from voxward.core.recipe import Preparation, load_recipe
from voxward.data.check_intensities import suspicions, unplanned_suspicions
from voxward.data.fingerprint import combine, summarize
from voxward.data.intensities import FEW, measure_intensities, pooled
from voxward.data.normalization import (
    NAMED,
    NORMALIZATIONS,
    check_normalization,
    chosen_normalization,
    plan_channel,
)
from voxward.data.planner import make_plan as planned
from voxward.data.prepare import measured_live, prepare, prepare_frozen

LABELS = LabelSet(("background", "a"), (0, 1))
# Normalisations that are made for images, under which a mask would become constant.
IMAGES = [name for name, kind in NORMALIZATIONS.items() if not kind.keeps_values]


def cube(low: float, high: float, kind: type = np.uint8) -> np.ndarray:
    """A cube of one value in another one, and a margin that the crop box keeps."""
    array = np.full((8, 9, 7), low)
    array[2:6, 3:7, 2:5] = high
    return array.astype(kind)


def volume(*channels: np.ndarray) -> Volume:
    return Volume(np.stack(channels), np.eye(4))


def noise(seed: int = 0, mean: float = 100.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 9, (8, 9, 7)).astype(np.float32)


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (1, 2), (0, -5), (-3, 0)])
def test_a_mask_in_one_case_does_not_vanish(kind, low, high):
    """Even under a plan that was made for images: 1 voxel of 8 is not the same as the 7 others."""
    array = cube(low, high, np.int16)
    image = volume(array, np.ones_like(array))
    channel = ChannelPlan("a", kind, 7.0, 7.0, 7.0, 0.0)
    plan = make_plan(spacing=(1.0, 1.0, 1.0), channels=(channel, channel))
    prepared = prepare(image, None, plan)
    inside, outside = prepared.image[0][3, 4, 3], prepared.image[0][0, 0, 0]
    assert abs(float(inside - outside)) > 0.5
    assert len(prepared.image[0].unique()) == 2
    live = measured_live(torch.from_numpy(image.array).float(), prepared.frame, plan)
    frozen = prepare_frozen(torch.from_numpy(image.array).float()[None], prepared.frame, plan, live)
    torch.testing.assert_close(frozen[0], prepared.image)


def fingerprint(*images: Volume, names: Sequence[str]):
    label = Volume(cube(0, 1), np.eye(4))
    cases = [summarize(image, label, LABELS, f"case_{n}") for n, image in enumerate(images)]
    return combine("d", names, LABELS, cases)


@pytest.mark.parametrize("kind", ["auto", *IMAGES])
@pytest.mark.parametrize("values", [(0, 1), (0, 255), (1, 2), (0, 1, 2, 3)])
def test_a_plan_scales_a_map_of_few_values(kind, values):
    """It is 0 to 1 in every case, also in one that has only a part of the values, and tells all of them apart."""
    map_ = cube(values[0], values[1])
    map_[0, 0, : len(values)] = values
    found = fingerprint(volume(noise(), map_), volume(noise(1), map_), names=("MRI", "prior"))
    plan = planned(found, Preparation(normalization=kind))
    assert plan.channels[0].normalization == ("mr" if kind == "auto" else kind)
    low, high = float(values[0]), float(values[-1])
    assert plan.channels[1] == ChannelPlan("prior", "scale", low, high, low, high - low)
    part = prepare(volume(noise(2), cube(values[0], values[1])), None, replace(plan, spacing=(1.0, 1.0, 1.0)))
    expected = [(value - low) / (high - low) for value in values[:2]]
    assert part.image[1].unique().tolist() == pytest.approx(expected)


def test_images_are_planned_as_before():
    image = volume(noise(), np.rint(noise(1)).astype(np.float32))
    found = fingerprint(image, image, names=("MRI", "CT"))
    plan = planned(found, Preparation())
    assert [channel.normalization for channel in plan.channels] == ["mr", "ct"]
    assert plan.channels[1].low == found.channels[1].low


def test_ct_whose_foreground_is_all_alike_is_scaled_by_the_whole_volume():
    array = noise(0, -500.0)
    array[2:6, 3:7, 2:5] = 40
    plan = planned(fingerprint(volume(array), names=("CT",)), Preparation())
    assert plan.channels[0].normalization == "scale"
    assert (plan.channels[0].low, plan.channels[0].high) == (array.min(), 40)


def test_what_a_recipe_says_about_a_channel_is_done():
    few = Intensities(0.0, 1.0, (0.0, 1.0))
    channel = ChannelFingerprint("prior", 1.0, 1.0, 1.0, 0.0)
    for given, expected in (("zscore", "scale"), ({"prior": "zscore"}, "zscore"), (("zscore",), "zscore"),
                            ({0: "none"}, "none"), ({"T1": "none"}, "scale"), ("none", "none")):  # fmt: skip
        assert plan_channel(Preparation(normalization=given), channel, 0, few).normalization == expected


@pytest.mark.parametrize(
    "change", [str.upper, str.lower, lambda name: name.replace("_", "-"), lambda name: f" {name} "]
)
def test_names_of_channels_say_how_they_are_normalised(change):
    for name, normalization in NAMED.items():
        assert chosen_normalization(Preparation(), change(name)) == normalization
        assert normalization in NORMALIZATIONS
    assert chosen_normalization(Preparation(), "prior") == "mr"


def test_each_channel_may_have_its_own_normalisation():
    for change in ("{T1-W: zscore, 1: none}", "[zscore, none]"):
        preparation = load_recipe("dynunet", [f"preparation.normalization={change}"]).preparation
        check_normalization(preparation, ("T1w", "PET"))
        chosen = [chosen_normalization(preparation, name, n) for n, name in enumerate(("T1w", "PET"))]
        assert chosen == ["zscore", "none"]
    assert chosen_normalization(Preparation(normalization={"T1": "zscore"}), "CT", 1) == "ct"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("{T1w: zzscore}", "unknown normalization 'zzscore'.*'zscore'"),
        ("{T1w: clip}", "clip must be .* with normalization 'clip'"),
        ("{T2: zscore}", "about a channel T2, but the dataset has 2: T1w, PET"),
        ("{2: zscore}", "about a channel 2, but"),
        ("[zscore]", "names 1 channels, but the dataset has 2: T1w, PET"),
    ],
)
def test_a_recipe_about_other_channels_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        check_normalization(load_recipe("dynunet", [f"preparation.normalization={change}"]).preparation, ("T1w", "PET"))


def test_photographs_and_rescaled_images():
    image = volume(np.clip(noise(), 0, 255), noise() - 100)
    channels = (ChannelPlan("rgb_to_0_1", "rgb"), ChannelPlan("rescale_to_0_1", "rescale"))
    found = prepare(image, None, make_plan(spacing=(1.0, 1.0, 1.0), channels=channels)).image.numpy()
    np.testing.assert_allclose(found[0], image.array[0] / 255, rtol=1e-6)
    other = image.array[1]
    np.testing.assert_allclose(found[1], (other - other.min()) / (other.max() - other.min()), atol=1e-6)


def test_measured_over_all_voxels():
    array = cube(0, 3)
    assert measure_intensities(array) == Intensities(0.0, 3.0, (0.0, 3.0), 0.0)
    array.flat[:20] = np.arange(20)
    assert measure_intensities(array).values == ()
    assert measure_intensities(np.arange(FEW).reshape(4, 2, 2)).values == tuple(map(float, range(FEW)))
    airy = np.where(cube(0, 1) > 0, 40, -1000).astype(np.int16)
    assert measure_intensities(airy).air == pytest.approx(1 - 48 / 504)
    assert pooled([measure_intensities(airy), measure_intensities(array)]).values == ()
    rare = np.zeros((60, 60, 60), np.float32)
    rare[7, 7, :40] = np.arange(40) / 7
    assert measure_intensities(rare).values == ()


def told(names, **cases):
    return dict(unplanned_suspicions(names, {id: tuple(map(measure_intensities, own)) for id, own in cases.items()}))


def test_one_sentence_for_all_cases():
    flat, image = np.ones((4, 4, 4), np.int16), noise()[:4, :4, :4]
    found = told(("MRI", "T2"), **{f"c{n}": (image, flat if n < 7 else image) for n in range(9)})
    assert list(found) == ["constant image"]
    assert "channel 1 (T2) has one value everywhere (1) in 7 of 9 cases (c0, c1, c2, c3, c4, ...)" in found.popitem()[1]
    everywhere = told(("MRI",), a=(flat,), b=(flat,))
    assert "channel 0 (MRI) is 1 everywhere in every case" in everywhere["constant image"]


def test_ct_by_another_name_and_another_image_by_that_name():
    hounsfield = np.where(cube(0, 1) > 0, noise() - 60, noise(1) - 1100).astype(np.int16)
    found = told(("abdomen",), a=(hounsfield,), b=(hounsfield,))
    assert "air at about -1000, as CT has, in 2 of 2 cases (a, b)" in found["not called CT"]
    assert "preparation.normalization={abdomen: ct}" in found["not called CT"]
    assert told(("CT",), a=(hounsfield,)) == {}
    assert "its values are" in told(("CT",), a=(noise(),))["no CT values"]
    stated = ChannelPlan("abdomen", "clip", -100.0, 240.0)
    assert not list(suspicions([stated], {"a": (measure_intensities(hounsfield),)}))


def test_a_mask_is_said_to_be_one():
    found = told(("MRI", "prior"), a=(noise(), cube(0, 255)))
    assert found == {
        "few values": "channel 1 (prior) has only the values 0, 255, as a mask has: it is passed on, scaled to 0 to 1"
    }
