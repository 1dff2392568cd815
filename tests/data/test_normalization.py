"""What every normalisation promises, whether or not its numbers are followed through a tensor."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.volumes import CODES, SPACING, make_affine, make_plan, make_volumes
from tests.rounding import rounding
from voxward.core.case import Volume
from voxward.core.plan import ChannelFingerprint, ChannelPlan
from voxward.core.recipe import Preparation, load_recipe
from voxward.data.normalization import (
    NORMALIZATIONS,
    check_normalization,
    chosen_normalization,
    normalization_of,
    sample,
)
from voxward.data.prepare import frame_of, measured, measured_live, prepare, prepare_frozen

KINDS = list(NORMALIZATIONS)
# Numbers that do not depend on the case, and numbers that only cut off what the splines overshoot.
FIXED, CUT_OFF = {"ct", "scale", "rgb"}, {"none"}
PREPARATION = Preparation(clip=(-100.0, 240.0))


def plan_of(kind: str, spacing=(0.9, 1.1, 2.0), **changes):
    channel = ChannelPlan("a", kind, 50.0, 150.0, 90.0, 30.0)
    return make_plan(spacing, channels=(replace(channel, **changes),))


def apart() -> np.ndarray:
    """A channel whose intensities lie apart from each other and from the ends of every intensity range."""
    random = np.random.default_rng(0)
    array = np.zeros((1, 5, 4, 4))
    array[0, 1:, :-1, 1:] = random.permutation(np.linspace(20, 190, 36)).reshape(4, 3, 3)
    return array


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.7, 2.4), SPACING])
@pytest.mark.parametrize(("code", "degrees"), CODES[1:4])
def test_the_frozen_form_equals_the_preparation(kind, spacing, code, degrees):
    image, _ = make_volumes(make_affine(code, degrees=degrees))
    plan = plan_of(kind, spacing)
    prepared = prepare(image, None, plan)
    frozen = prepare_frozen(torch.from_numpy(image.array)[None], prepared.frame, plan)[0]
    torch.testing.assert_close(frozen, prepared.image, rtol=0, atol=rounding(image.array / prepared.frame.std[0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_every_number_type_is_prepared_alike(kind, dtype):
    array = np.random.default_rng(0).integers(0, 200, (1, 8, 7, 6))
    expected = prepare(Volume(array.astype(np.float32), np.eye(4)), None, plan_of(kind)).image
    torch.testing.assert_close(prepare(Volume(array.astype(dtype), np.eye(4)), None, plan_of(kind)).image, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("code", "degrees"), CODES[1:4])
@pytest.mark.parametrize("thinned", [2_000_000, 1_000])
def test_live_figures_are_those_of_the_changed_volume(kind, code, degrees, thinned, monkeypatch):
    """Of the clean volume there is the crop box alone; percentiles of a thinned sample, too."""
    monkeypatch.setattr(sample, "_SAMPLE", thinned)
    image, _ = make_volumes(make_affine(code, degrees=degrees))
    plan, frame = plan_of(kind), frame_of(image, plan_of(kind))
    moved = np.where(image.array != 0, 1.3 * image.array + np.random.default_rng(1).uniform(0, 9, image.array.shape), 0)
    changed = Volume(moved.astype(np.float32), image.affine)
    live = measured_live(torch.from_numpy(changed.array), frame, plan)
    found, expected = [float(value) for value in live[0]], measured(changed, plan)[0]
    assert found == pytest.approx(expected, rel=1e-5)
    assert found != pytest.approx(measured(image, plan)[0], rel=1e-2) or kind in FIXED
    prepared = prepare_frozen(torch.from_numpy(changed.array)[None], frame, plan, live)
    torch.testing.assert_close(prepared[0], prepare(changed, None, plan).image, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 70.0, 0.1, -1.7e6])
def test_a_constant_channel_is_prepared_without_dividing_by_zero(kind, value):
    image, plan = Volume(np.full((1, 6, 5, 4), value, np.float32), np.eye(4)), plan_of(kind)
    live = measured_live(torch.from_numpy(image.array), frame_of(image, plan), plan)
    assert [float(number) for number in live[0]] == pytest.approx(measured(image, plan)[0], rel=1e-6)
    assert measured(image, plan)[0][3] > 0
    prepared = prepare(image, None, plan).image
    assert torch.isfinite(prepared).all()
    same = prepared.flatten()[0].expand_as(prepared)
    torch.testing.assert_close(prepared, same, rtol=0, atol=rounding(image.array.clip(-200, 200)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_frozen_form_is_differentiable(kind):
    """The difference quotient along every voxel that is not 0, where `zscore` jumps."""
    array, plan = apart(), plan_of(kind)
    frame, inside = frame_of(Volume(array, make_affine("PIL")), plan), torch.from_numpy(array) != 0
    kept, zeros = torch.from_numpy(array[array != 0]).requires_grad_(), torch.zeros(1, *array.shape).double()
    torch.autograd.gradcheck(
        lambda values: prepare_frozen(zeros.masked_scatter(inside, values), frame, plan), (kept,), eps=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_preparation_with_its_own_figures_is_differentiable(kind):
    """The difference quotient along every voxel; intensities apart from each other and from the clipping."""
    array, plan = apart(), plan_of(kind)
    frame = frame_of(Volume(array, make_affine("PIL")), plan)

    def prepared(x: torch.Tensor) -> torch.Tensor:
        return prepare_frozen(x[None], frame, plan, measured_live(x, frame, plan))

    volume = torch.from_numpy(array).requires_grad_()
    inside = torch.from_numpy(array) != 0  # at 0 the figures jump
    kept = torch.from_numpy(array[array != 0]).requires_grad_()
    torch.autograd.gradcheck(
        lambda values: prepared(torch.zeros_like(volume).masked_scatter(inside, values)), (kept,), eps=1e-6, atol=1e-6
    )
    (own,) = torch.autograd.grad((prepared(volume) ** 2).sum(), volume)
    (held,) = torch.autograd.grad((prepare_frozen(volume[None], frame, plan) ** 2).sum(), volume)
    if kind not in CUT_OFF:
        assert torch.allclose(own, held) == (kind in FIXED)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_step_works_on_each_voxel_by_itself(kind):
    """So that a volume may be normalised part by part, by numbers and by tensors alike."""
    normalization, x = NORMALIZATIONS[kind], torch.linspace(20.0, 190.0, 60).view(3, 5, 4)
    numbers = (50.0, 150.0, 90.0, 30.0)
    whole = normalization.after_resampling(x, numbers)
    parts = [normalization.after_resampling(voxel, numbers) for voxel in x.view(-1, 1, 1, 1)]
    assert torch.equal(whole.flatten(), torch.cat(parts).flatten())
    assert torch.equal(whole, normalization.after_resampling(x, tuple(map(torch.tensor, numbers))))


@pytest.mark.parametrize("kind", KINDS)
def test_where_zero_is_air_more_of_it_changes_nothing(kind):
    channel = apart()[0]
    plan = plan_of(kind).channels[0]
    padded = np.pad(channel, 3)
    same = NORMALIZATIONS[kind].measure(padded, plan) == pytest.approx(NORMALIZATIONS[kind].measure(channel, plan))
    assert same or not NORMALIZATIONS[kind].keeps_zero


@pytest.mark.parametrize("kind", KINDS)
def test_the_plans_numbers_are_read_where_it_says_so(kind):
    image, _ = make_volumes(np.eye(4))
    first, second = plan_of(kind), plan_of(kind, low=60.0, high=140.0, mean=80.0, std=20.0)
    same = torch.equal(prepare(image, None, first).image, prepare(image, None, second).image)
    assert same != NORMALIZATIONS[kind].reads_plan


@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_recipe_can_be_planned(kind):
    preparation = replace(PREPARATION, normalization=kind)
    check_normalization(preparation)
    planned = NORMALIZATIONS[kind].planned(ChannelFingerprint("a", -5.0, 9.0, 2.0, 3.0), preparation)
    assert len(planned) == 4
    assert all(map(math.isfinite, planned))


def test_the_plan_records_the_datasets_numbers_or_the_recipes_range():
    channel = ChannelFingerprint("a", -5.0, 9.0, 2.0, 3.0)
    found = {kind: NORMALIZATIONS[kind].planned(channel, PREPARATION) for kind in ("ct", "mr", "none", "clip")}
    assert found.pop("clip") == (-100.0, 240.0, 0.0, 1.0)
    assert NORMALIZATIONS["scale"].planned(channel, PREPARATION) == (-5.0, 9.0, -5.0, 14.0)
    assert set(found.values()) == {(-5.0, 9.0, 2.0, 3.0)}


def test_the_channels_name_chooses_where_the_recipe_does_not():
    chosen = [chosen_normalization(Preparation(), name) for name in ("CT", " ct", "CTA", "T1")]
    assert chosen == ["ct", "ct", "mr", "mr"]
    assert chosen_normalization(Preparation(normalization="minmax"), "CT") == "minmax"
    check_normalization(Preparation())


def test_a_recipe_that_cannot_normalise_is_refused():
    with pytest.raises(ValueError, match=r"clip must be .* with normalization 'clip', got none"):
        check_normalization(load_recipe("rog", ["preparation.normalization=clip"]).preparation)
    with pytest.raises(ValueError, match=r"clip must be .* with normalization 'clip', got none"):
        NORMALIZATIONS["clip"].planned(ChannelFingerprint("a", -5.0, 9.0, 2.0, 3.0), Preparation())
    with pytest.raises(ValueError, match=r"unknown normalization 'z-score'.*'zscore'.*Known: auto, clip, ct, minmax"):
        check_normalization(load_recipe("rog", ["preparation.normalization=z-score"]).preparation)


def test_a_plan_edited_by_hand_is_refused_with_the_legal_names():
    image, _ = make_volumes(np.eye(4))
    plan = plan_of("hounsfield")
    known = ", ".join(sorted(NORMALIZATIONS))
    wrong = rf"channel 'a' of the plan: unknown normalization 'hounsfield'.*Known: {known}"
    for made in (prepare, lambda volume, _, plan: measured(volume, plan)):
        with pytest.raises(ValueError, match=wrong):
            made(image, None, plan)
    with pytest.raises(ValueError, match=wrong):
        normalization_of(plan.channels[0])


def test_standard_takes_all_voxels():
    array = apart()
    plan = replace(plan_of("standard", (1.0, 1.0, 1.0)), crop_nonzero=False)
    found = prepare(Volume(array, np.eye(4)), None, plan).image.numpy()
    np.testing.assert_allclose(found, (array - array.mean()) / array.std(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_expression_for_other_programs_computes_the_same(kind):
    plan = replace(plan_of(kind), resample=False, crop_nonzero=False)
    array = apart().astype(np.float32)
    computed = eval(
        f"lambda c: {normalization_of(plan.channels[0]).expression(plan.channels[0])}", {"np": np, "torch": torch}
    )
    expected = prepare(Volume(array, np.eye(4)), None, plan).image[0]
    torch.testing.assert_close(computed(torch.from_numpy(array[0])), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_transform_of_monai_computes_the_same(kind):
    import monai.transforms

    plan = replace(plan_of(kind), resample=False, crop_nonzero=False)
    found = normalization_of(plan.channels[0]).monai(plan.channels[0])
    if found is None:
        return
    array = apart().astype(np.float32)
    transform = getattr(monai.transforms, found[0])(keys="image", **found[1])
    computed = transform({"image": torch.from_numpy(array.copy())})["image"]
    torch.testing.assert_close(computed, prepare(Volume(array, np.eye(4)), None, plan).image, rtol=1e-5, atol=1e-5)
