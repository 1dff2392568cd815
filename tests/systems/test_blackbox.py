"""A Python function as a system: what it gets, what it may return, and what is said when it returns something else."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from voxward.attacks.criteria import class_dice
from voxward.attacks.objectives import create_objective
from voxward.core.case import Scaling, Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet, Region
from voxward.core.model import VolumeModel
from voxward.systems.blackbox import BlackBoxSystem, blackbox_system
from voxward.systems.system import NotDifferentiable, System

SHAPE = (4, 5, 6)
LABELS = {"background": 0, "organ": 2, "lesion": 5}
VALUES = np.array([0, 2, 5])


def scan(kind="int16", channels=1):
    drawn = np.random.default_rng(0).integers(-100, 200, (channels, *SHAPE))
    return Volume(drawn.astype(kind), np.diag([1.0, 1.0, 2.0, 1.0]))


def levels(volume):
    """Organ above 0, lesion above 100."""
    return np.where(volume.array[0] > 100, 5, np.where(volume.array[0] > 0, 2, 0))


def indices(array):
    return (array > 0).astype(int) + (array > 100)


def test_it_is_a_system():
    system = blackbox_system(levels, LABELS, ("CT",))
    assert isinstance(system, System)
    assert (system.name, system.channels, system.labels.names) == ("levels", ("CT",), tuple(LABELS))
    assert system.labels.values == tuple(VALUES)
    assert blackbox_system(levels, ("background", "a", "b")).labels.values == (0, 1, 2)


def test_masks_become_class_indices():
    found = blackbox_system(levels, LABELS).segment(scan())
    np.testing.assert_array_equal(found.label, indices(scan().array[0]))


@pytest.mark.parametrize("convert", [np.float64, torch.from_numpy, np.ndarray.tolist])
def test_what_holds_whole_numbers_is_a_mask(convert):
    found = blackbox_system(lambda volume: convert(levels(volume)), LABELS).segment(scan())
    np.testing.assert_array_equal(found.label, indices(scan().array[0]))


def test_a_boolean_mask_is_the_first_class():
    found = blackbox_system(lambda volume: volume.array[0] > 0, ("background", "organ")).segment(scan())
    np.testing.assert_array_equal(found.label, scan().array[0] > 0)


def test_the_function_may_change_what_it_gets():
    def spoils(volume):
        mask = levels(volume)
        volume.array[:], volume.affine[:] = 0, 0
        return mask

    volume, untouched = scan(), scan()
    system = blackbox_system(spoils, LABELS)
    for _ in range(2):
        np.testing.assert_array_equal(system.segment(volume).label, indices(untouched.array[0]))
    np.testing.assert_array_equal(volume.array, untouched.array)
    np.testing.assert_array_equal(volume.affine, untouched.affine)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros((4, 5, 7), int), r"shape \(4, 5, 6\) for this volume, got \(4, 5, 7\)"),
        (np.zeros((1, *SHAPE), int), r"got \(1, 4, 5, 6\)"),
        (np.full(SHAPE, 0.5), "whole label values, got float64, such as 0.5"),
        (np.full(SHAPE, np.nan), "such as nan"),
        (np.full(SHAPE, "liver"), "whole label values, got <U5"),
        (np.full(SHAPE, 3), r"does not fit its labels: label values \[3\] are not declared; legal: \[0, 2, 5\]"),
        (np.full(SHAPE, -1), r"label values \[-1\]"),
        (None, "must return the mask as an array, got NoneType"),
        (scan(), "got Volume"),
        ([[1, 2], [3]], "must return the mask as an array: "),
        (torch.zeros(SHAPE, requires_grad=True), "must return the mask as an array: .*detach"),
    ],
)
def test_what_is_no_mask_is_refused(returned, message):
    with pytest.raises(UserError, match=f"mine .*{message}"):
        blackbox_system(lambda volume: returned, LABELS, name="mine").segment(scan())


def test_an_error_inside_the_function_is_one_of_the_case():
    def fails(volume):
        raise RuntimeError("no licence\nfound")

    with pytest.raises(UserError, match="fails failed: RuntimeError: no licence found") as caught:
        blackbox_system(fails, LABELS).segment(scan())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_function_that_answers_differently_is_noticed_once():
    draw = np.random.default_rng(0)
    calls = []

    def random(volume):
        calls.append(1)
        return draw.integers(0, 2, SHAPE)

    system = blackbox_system(random, ("background", "organ"))
    with pytest.warns(UserWarning, match=r"random answers differently each time: asked twice .* of 120 voxels changed"):
        system.segment(scan())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        system.segment(scan())
        assert len(calls) == 3
        replace(system, ask_twice=False).segment(scan())
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ()}, "at least one channel"),
        ({"labels": ("background",)}, "at least one foreground class"),
        ({"labels": {"organ": 1}}, "background"),
        ({"intensities": [(0.0, 1.0), (0.0, 1.0)]}, "one .low, high. for each channel"),
        ({"intensities": [(1.0, 1.0)]}, "low < high"),
        ({"intensities": [(0.0, float("inf"))]}, "finite"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        blackbox_system(**({"segment": levels, "labels": LABELS} | change))


def test_intensity_ranges():
    array = np.concatenate([np.arange(1000, dtype=np.int16), np.zeros(1000, np.int16)]).reshape(1, 20, 10, 10)
    volume = Volume(array, np.eye(4))

    def ends(**options):
        (found,) = blackbox_system(levels, LABELS, **options).ranges(volume)
        return found.low, found.high, found.keeps_zero

    assert ends(intensities=[(-100.0, 240.0)]) == (-100.0, 240.0, False)
    assert ends() == pytest.approx((*np.percentile(array, (0.5, 99.5)), False))
    assert ends(keeps_zero=True) == pytest.approx((*np.percentile(np.arange(1, 1000), (0.5, 99.5)), True))
    flat = Volume(np.zeros((1, *SHAPE), np.int16), np.eye(4))
    (found,) = blackbox_system(levels, LABELS).ranges(flat)
    assert found.low < found.high


def test_the_wrong_number_of_channels_is_refused():
    with pytest.raises(UserError, match=r"takes 2 channels \(T1, T2\), got 1"):
        blackbox_system(levels, LABELS, ("T1", "T2")).segment(scan())


def test_there_are_neither_gradient_nor_probabilities_nor_a_network():
    system = blackbox_system(levels, LABELS)
    with pytest.raises(NotDifferentiable, match="levels is a black box"):
        system.check_gradient()
    with pytest.raises(UserError, match="no probabilities"):
        system.check_probabilities()
    with pytest.raises(UserError, match="no network"):
        system.network()
    model = system.freeze(scan())
    assert isinstance(model, VolumeModel)
    batch = torch.from_numpy(scan().array.astype("float32"))[None]
    with pytest.raises(NotDifferentiable):
        model.value_and_grad(batch, torch.zeros(1, *SHAPE, dtype=torch.long), lambda logits, target: logits.sum())


def test_an_attack_sees_the_masks_of_what_a_file_would_hold():
    seen = []

    def looks(volume):
        seen.append((volume.array.dtype, volume.array.copy()))
        return levels(volume)

    clean = scan()
    model = blackbox_system(looks, LABELS, ask_twice=False).freeze(clean)
    moved = torch.from_numpy(clean.array + np.float32(0.75))[None]
    batch = torch.cat([moved, moved - 40])
    logits = model.logits(batch)
    assert [kind for kind, _ in seen] == [np.dtype("int16")] * 2
    np.testing.assert_array_equal(seen[0][1], clean.array)  # towards the clean intensities
    np.testing.assert_array_equal(seen[1][1], np.ceil(batch[1].numpy()))
    masks = model.segment(logits)
    np.testing.assert_array_equal(masks, np.stack([indices(array[0]) for _, array in seen]))
    # The soft Dice that Square searches on is the Dice of the masks.
    truth = torch.from_numpy(np.random.default_rng(1).integers(0, 3, (2, *SHAPE)))
    soft = 1 - create_objective("dice")(logits, truth, 0.0)
    torch.testing.assert_close(soft.double(), class_dice(masks, truth, 3).mean(1), rtol=0, atol=1e-6)
    swept = model.sweep(batch)
    assert torch.equal(model.logits_after(swept, moved, (slice(None),) * 3).logits, logits[:1])


def test_intensities_that_a_file_scales_come_back_as_they_are_read():
    scaling = Scaling("int16", 0.5, -3.0)
    whole = np.arange(120).reshape(1, *SHAPE)
    clean = Volume((whole * 0.5 - 3.0).astype(np.float32), np.eye(4), scaling)
    seen = []
    model = blackbox_system(lambda volume: seen.append(volume) or levels(volume), LABELS, ask_twice=False).freeze(clean)
    model.logits(torch.from_numpy(clean.array + np.float32(0.7))[None])
    np.testing.assert_array_equal(seen[0].array, clean.array + np.float32(0.5))
    assert (seen[0].array.dtype, seen[0].scaling) == (np.float32, scaling)


def test_regions():
    regions = (Region("lesion", (5,)), Region("whole", (2, 5)))
    labels = LabelSet(tuple(LABELS), tuple(LABELS.values()), regions)
    model = BlackBoxSystem(levels, labels, ("CT",), "mine").freeze(scan())
    masks = model.segment(model.logits(torch.from_numpy(scan().array.astype("float32"))[None]))
    array = scan().array[0]
    np.testing.assert_array_equal(masks[0], np.stack([array > 100, array > 0]))


def test_the_fingerprint_is_of_code_and_settings():
    def other(volume):
        return levels(volume) * 0

    plain = blackbox_system(levels, LABELS)
    assert plain.fingerprint() == blackbox_system(levels, LABELS).fingerprint()
    changed = [{"version": "2"}, {"keeps_zero": True}, {"name": "x"}, {"segment": other, "name": "levels"}]
    found = {blackbox_system(**({"segment": levels, "labels": LABELS} | change)).fingerprint() for change in changed}
    assert len(found | {plain.fingerprint()}) == 5
