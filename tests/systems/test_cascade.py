"""The cascade against networks whose right answer is known, and a replacement of the box written out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from tests.core.test_plan import PLAN
from tests.systems.build import cascade
from voxward.core.case import Volume
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import load_recipe
from voxward.pipeline.predictor import Predictor
from voxward.runs.components import drop_small_parts
from voxward.runs.folder import TrainedModel
from voxward.runs.postprocess import PostProcess
from voxward.systems.crop import bounding_box, crop

AFFINES = {
    "plain": np.diag([1.0, 1.0, 2.0, 1.0]),
    "flipped": np.array([[-1.0, 0, 0, 40], [0, -1, 0, 9], [0, 0, 2, -7], [0, 0, 0, 1]]),
    "permuted": np.array([[0, -1.0, 0, 3], [0, 0, 1, 5], [-2, 0, 0, 8], [0, 0, 0, 1]]),
    "oblique": np.array([[0.8, -0.6, 0, 3], [0.6, 0.8, 0, 5], [0, 0, -2, 8], [0, 0, 0, 1]]),
}


class Levels(nn.Module):
    """The class whose interval the intensity lies in: background below thresholds[0], then one class after another."""

    def __init__(self, *thresholds):
        super().__init__()
        self.thresholds, self.seen = thresholds, []

    def forward(self, x):
        self.seen.append(x)
        classes = torch.bucketize(x[:, 0].contiguous(), torch.tensor(self.thresholds))
        return nn.functional.one_hot(classes, len(self.thresholds) + 1).movedim(-1, 1).to(x)


def predictor(*thresholds, names=None, **plan):
    """A model in the files' own intensities; it does not resample where the spacing is (1, 1, 2)."""
    names = names or ("background", *"abcdef"[: len(thresholds)])
    labels = LabelSet(names, tuple(range(len(names))))
    channels = (ChannelPlan("CT", "none"),)
    changed = {"crop_nonzero": False, "spline_order": (1, 1, 1), "labels": labels, "channels": channels} | plan
    model = TrainedModel(replace(PLAN, **changed), load_recipe("rog").inference, Levels(*thresholds), PostProcess())
    return Predictor(model, torch.device("cpu"), "fp32")


def in_space(shape, affine):
    """The plan's spacing for a file whose voxels lie thus, and the shape in file order."""
    order = np.abs(affine[:3, :3]).argmax(axis=0)
    return tuple(shape[n] for n in order)


def scan(affine=AFFINES["plain"], shape=(40, 36, 24)):
    """An organ of 200 with a halo of 120 around it, a stray speck of 300, on 0; and the masks."""
    shape = in_space(shape, affine)
    rng = np.random.default_rng(0)
    centre = np.array(shape) * 0.6
    place = (np.indices(shape) - centre[:, None, None, None]) / (np.array(shape)[:, None, None, None] / 40)
    distance = np.sqrt((place**2).sum(0))
    organ, halo = distance < 7, (distance >= 7) & (distance < 10)
    array = 200.0 * organ + 120.0 * halo + rng.normal(0, 3, shape)
    speck = np.zeros(shape, bool)
    speck[1:3, 1:3, 1:3] = True
    array[speck] = 300
    return Volume(array.astype(np.int16)[None], affine), organ, halo, speck


def by_hand(mask, margin):
    low = [max(int(places.min()) - m, 0) for places, m in zip(np.nonzero(mask), margin, strict=True)]
    high = [
        min(int(places.max()) + m + 1, n) for places, m, n in zip(np.nonzero(mask), margin, mask.shape, strict=True)
    ]
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


@pytest.mark.parametrize("name", AFFINES)
def test_the_box_is_replaced_and_the_speck_is_gone(name):
    """The coarse model sees organ and speck; the fine one also the halo, which the margin of 4 voxels holds."""
    volume, organ, halo, speck = scan(AFFINES[name])
    result = cascade(predictor(160.0), predictor(60.0), margin=4.0).refine(volume)
    np.testing.assert_array_equal(result.coarse, organ | speck)
    assert result.box == by_hand(organ, (4, 4, 4))
    assert result.refined
    expected = np.zeros(organ.shape, int)
    expected[result.box] = (organ | halo)[result.box]
    np.testing.assert_array_equal(result.label, expected)
    assert result.label.sum() == (organ | halo).sum()
    assert result.label.dtype == np.uint8


@pytest.mark.parametrize("name", AFFINES)
def test_a_margin_in_mm_is_as_wide_in_space_along_every_axis(name):
    volume, organ, _, _ = scan(AFFINES[name])
    result = cascade(predictor(160.0), predictor(60.0), margin=5.0, margin_unit="mm").refine(volume)
    assert result.box == by_hand(organ, [int(np.ceil(5.0 / round(length, 6))) for length in volume.spacing])


@pytest.mark.parametrize("name", AFFINES)
def test_the_fine_model_is_told_where_the_crop_lies(name):
    """The same voxels at the same millimetres, before and after the crop; and the fine model resamples on its own."""
    volume, organ, _, _ = scan(AFFINES[name])
    box = by_hand(organ, (2, 2, 2))
    part = crop(volume, box)
    inner = np.array([1, 2, 3])
    outer = inner + [side.start for side in box]
    assert part.array[(0, *inner)] == volume.array[(0, *outer)]
    np.testing.assert_allclose(part.affine @ [*inner, 1], volume.affine @ [*outer, 1], atol=1e-12)
    assert part.spacing == volume.spacing
    fine = predictor(160.0, spacing=(0.7, 1.3, 1.1))
    label = cascade(predictor(160.0), fine, margin=6.0).refine(volume).label
    assert 2 * (label & organ).sum() / (label.sum() + organ.sum()) > 0.95


def test_without_a_filter_the_speck_blows_up_the_box():
    volume, organ, _, speck = scan()
    coarse, fine = predictor(160.0), predictor(60.0)
    unfiltered = cascade(coarse, fine, margin=0.0, fraction=0.0).refine(volume)
    assert unfiltered.box == by_hand(organ | speck, (0, 0, 0))
    assert cascade(coarse, fine, margin=0.0).refine(volume).box == by_hand(organ, (0, 0, 0))


def test_an_empty_coarse_mask_is_flagged():
    volume = scan()[0]
    fine = predictor(60.0)
    result = cascade(predictor(999.0), fine).refine(volume)
    assert result.box is None
    assert not result.refined
    assert not result.label.any()
    assert not result.coarse.any()
    assert not fine.model.network.seen


def test_boxes_at_the_border_and_smaller_than_a_patch():
    """One voxel in each corner of the volume in turn; patches are 16 x 16 x 8."""
    shape = (40, 36, 24)
    for corner in [(0, 0, 0), (39, 35, 23), (0, 35, 0), (39, 0, 12)]:
        array = np.zeros(shape, np.int16)
        array[corner] = 200
        for margin, affine in ((0.0, "plain"), (1.0, "flipped"), (3.0, "oblique"), (500.0, "flipped")):
            both = cascade(predictor(160.0), predictor(60.0), margin=margin)
            result = both.refine(Volume(array[None], AFFINES[affine]))
            assert result.box == by_hand(array > 0, (int(margin),) * 3)
            np.testing.assert_array_equal(result.label, array > 0)
            assert tuple(both.fine.network().network.seen[0].shape[2:]) == (16, 16, 8)


def test_a_flat_volume():
    volume, organ, halo, _ = scan(shape=(40, 36, 1))
    size = (16, 16, 1)
    flat = {"patch_size": size, "window_size": size, "source_size": size, "strides": ((2, 2, 1), (2, 2, 1))}
    result = cascade(predictor(160.0, **flat), predictor(60.0, **flat), margin=4.0).refine(volume)
    np.testing.assert_array_equal(result.label, organ | halo)


def two_organs():
    """Class a in the middle, a smaller class b far from it, a speck of class a elsewhere."""
    array = np.zeros((40, 36, 24), np.int16)
    array[10:20, 10:20, 8:14] = 200
    array[30:34, 28:32, 17:20] = 400
    array[1:3, 33:35, 1] = 200
    return Volume(array[None], AFFINES["flipped"]), array


def test_a_small_organ_is_not_lost_to_a_large_one():
    """Class b holds 7 % of the foreground, yet the fine model sees it; the speck of class a goes."""
    volume, array = two_organs()
    result = cascade(predictor(100.0, 300.0), predictor(100.0, 300.0), margin=2.0).refine(volume)
    assert result.box == by_hand((array > 0) & (np.indices(array.shape)[0] > 3), (2, 2, 2))
    expected = np.where(array == 400, 2, np.where(array == 200, 1, 0))
    expected[1:3, 33:35, 1] = 0
    np.testing.assert_array_equal(result.label, expected)


@pytest.mark.parametrize(("klass", "value"), [("a", 200), ("b", 400)])
def test_chosen_classes_draw_the_box_and_others_stay_as_they_were(klass, value):
    volume, array = two_organs()
    coarse, fine = predictor(100.0, 300.0), predictor(150.0, 450.0)  # the fine one sees class a in organ b
    result = cascade(coarse, fine, margin=1.0, classes=(klass,)).refine(volume)
    wanted = (array == value) & (np.indices(array.shape)[0] > 3)
    assert result.box == by_hand(wanted, (1, 1, 1))
    expected = np.where(array == 400, 2, np.where(array == 200, 1, 0))
    if klass == "b":
        expected[30:34, 28:32, 17:20] = 1
    else:
        expected[1:3, 33:35, 1] = 0
    np.testing.assert_array_equal(result.label, expected)


def test_a_coarse_model_that_only_localises():
    """It knows one class, the fine one two; outside the box nothing of it remains."""
    volume, array = two_organs()
    coarse, fine = predictor(100.0, names=("background", "abdomen")), predictor(100.0, 300.0)
    both = cascade(coarse, fine, margin=0.0, localise_only=True)
    assert both.labels.names == ("background", "a", "b")
    result = both.refine(volume)
    assert set(np.unique(result.coarse)) == {0, 1}
    # One class, so that the small organ is but a small part of it.
    assert result.box == (slice(10, 20), slice(10, 20), slice(8, 14))
    expected = np.zeros(array.shape, int)
    expected[result.box] = 1
    np.testing.assert_array_equal(result.label, expected)
    whole = replace(both, region=replace(both.region, fraction=0.0)).refine(volume)
    np.testing.assert_array_equal(whole.label, np.where(array == 400, 2, np.where(array == 200, 1, 0)))
    empty = cascade(predictor(999.0, names=("background", "abdomen")), fine, localise_only=True).refine(volume)
    assert empty.box is None
    assert not empty.label.any()


def test_mask_outside_hides_the_margin():
    volume, organ, halo, _ = scan()
    plain, masked = (
        cascade(predictor(160.0), predictor(60.0), margin=5.0, mask_outside=mask).refine(volume)
        for mask in (False, True)
    )
    assert (plain.label[halo] == 1).all()
    np.testing.assert_array_equal(masked.label, organ)
    assert volume.array[0][halo].min() > 60  # the volume itself is left alone


def test_progress_is_that_of_both():
    heard = []
    both = cascade(predictor(160.0), predictor(60.0))
    both.segment(scan()[0], lambda done, of: heard.append((done, of)))
    assert [done for done, of in heard].count(max(of for _, of in heard)) >= 1
    assert sum(done == of for done, of in heard) == 2


def test_models_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match=r"0 background, 1 a, 2 b are not the fine one's 0 background, 1 a: set loc"):
        cascade(predictor(1.0, 2.0), predictor(1.0))
    with pytest.raises(ValueError, match=r"unknown class of the coarse model 'liver'.*Known: a"):
        cascade(predictor(1.0), predictor(1.0), classes=("liver",))
    with pytest.raises(ValueError, match=r"margin must be .* got -1.0; fraction must be in \[0, 1\], got 1.5"):
        cascade(predictor(1.0), predictor(1.0), margin=-1.0, fraction=1.5)
    pair = (ChannelPlan("CT", "none"), ChannelPlan("PET", "none"))
    two, turned = predictor(60.0, channels=pair), predictor(60.0, channels=pair[::-1])
    with pytest.raises(ValueError, match=r"the coarse model's channels CT are not the fine one's CT, PET"):
        cascade(predictor(160.0), two)
    with pytest.raises(ValueError, match=r"channels CT, PET are not the fine one's PET, CT"):
        cascade(two, turned)
    with pytest.raises(ValueError, match="takes 2 channels"):
        cascade(two, two).segment(scan()[0])
    assert not two.model.network.seen


def parts_of(sizes):
    """A row of bars of these lengths, each alone in its plane."""
    label = np.zeros((2 * len(sizes), 1, max(sizes)), np.uint8)
    for n, size in enumerate(sizes):
        label[2 * n, 0, :size] = 1
    return label


@pytest.mark.parametrize(
    ("sizes", "fraction", "kept"),
    [
        ((8, 2), 0.2, (8, 2)),  # just the share
        ((81, 19), 0.2, (81,)),
        ((95, 5), 0.05, (95, 5)),
        ((96, 4), 0.05, (96,)),
        ((3,) * 6, 0.2, (3,)),  # equal parts would all go
        ((2, 4, 3), 1.0, (4,)),
        ((2, 4, 3), 0.0, (2, 4, 3)),
        ((1,), 0.2, (1,)),
    ],
)
def test_parts_below_the_share_go_and_the_largest_stays(sizes, fraction, kept):
    label = parts_of(sizes)
    result = drop_small_parts(label, fraction, (1,))
    components, count = ndimage.label(result)
    assert sorted(ndimage.sum_labels(result, components, range(1, count + 1))) == sorted(kept)
    assert label.sum() == sum(sizes)  # a copy was changed


def test_parts_touch_by_a_corner_and_may_hold_several_classes():
    label = np.zeros((9, 9, 9), np.uint8)
    label[:4, :4, :4], label[4, 4, 4], label[8, 8, 8], label[8, 0, 0] = 1, 2, 2, 3
    result = drop_small_parts(label, 0.2, (1, 2))
    assert result[4, 4, 4] == 2
    assert result[8, 8, 8] == 0
    assert result[8, 0, 0] == 3
    np.testing.assert_array_equal(drop_small_parts(np.zeros_like(label), 0.2, (1,)), np.zeros_like(label))


def test_bounding_box():
    mask = np.zeros((7, 8, 9), bool)
    assert bounding_box(mask) is None
    mask[2, 3, 4] = mask[4, 3, 8] = True
    assert bounding_box(mask) == (slice(2, 5), slice(3, 4), slice(4, 9))
    assert bounding_box(mask, (1, 4, 2)) == (slice(1, 6), slice(0, 8), slice(2, 9))
