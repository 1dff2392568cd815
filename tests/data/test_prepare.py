"""Preparation and its inverse, on volumes whose axes are permuted, flipped, oblique, anisotropic and odd."""

from __future__ import annotations

from collections.abc import Callable

import nibabel
import numpy as np
import pytest
import torch

from tests.data.volumes import CODES, LABELS, blobs, dice, make_affine, make_plan, make_volumes, restored
from tests.rounding import rounding
from voxward.core.case import Frame, Volume
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan
from voxward.data.crop import paste
from voxward.data.normalization import sample as module
from voxward.data.orient import nonzero_box, orient, orientation
from voxward.data.prepare import frame_of, prepare


@pytest.mark.parametrize(("code", "degrees"), CODES)
def test_orientation_agrees_with_nibabel(code: str, degrees: float) -> None:
    affine = make_affine(code, degrees=degrees)
    array = np.random.default_rng(0).random((5, 6, 7))
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine)).get_fdata()
    axes, flips = orientation(affine)
    np.testing.assert_array_equal(orient(array, axes, flips), expected)
    np.testing.assert_array_equal(orient(array[None], axes, flips)[0], expected)


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_a_singular_affine_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="invertible"):
        orientation(bad)


def test_nonzero_box_spans_all_channels() -> None:
    array = np.zeros((2, 6, 7, 8))
    array[0, 1, 2, 3] = 1
    array[1, 4, 2, 5] = -1
    assert nonzero_box(array) == ((1, 2, 3), (5, 3, 6))
    assert nonzero_box(array * 0) == ((0, 0, 0), (6, 7, 8))


@pytest.mark.parametrize(("code", "degrees"), CODES)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 0.7, 1.4)])
def test_labels_come_back(code: str, degrees: float, spacing: tuple[float, float, float]) -> None:
    image, label = make_volumes(make_affine(code, degrees=degrees))
    prepared = prepare(image, label, make_plan(spacing))
    back = LABELS.to_values(restored(prepared.label, prepared.frame))
    assert back.shape == label.shape
    for value in (1, 4):
        assert dice(back == value, label.array == value) > 0.95


@pytest.mark.parametrize(("code", "degrees"), CODES)
def test_the_same_spacing_is_the_identity(code: str, degrees: float) -> None:
    affine = make_affine(code, degrees=degrees)
    image, label = make_volumes(affine)
    axes, _ = orientation(affine)
    plan = make_plan(tuple(image.spacing[axis] for axis in axes))
    prepared = prepare(image, label, plan)
    frame = prepared.frame
    np.testing.assert_array_equal(LABELS.to_values(restored(prepared.label, frame)), label.array * _inside(frame))
    back = prepared.image.double() * frame.std[0] + frame.mean[0]
    expected = image.array[0].clip(frame.low[0], frame.high[0])
    inside = _inside(frame).astype(bool)
    np.testing.assert_allclose(paste(back[0].numpy(), frame)[inside], expected[inside], rtol=1e-5)


def _inside(frame: Frame) -> np.ndarray:
    return paste(np.ones(frame.box_shape, np.uint8), frame)


def test_image_follows_its_label_through_geometry() -> None:
    """An image equal to its label stays equal to it: image and label are oriented, cropped and resampled alike."""
    label = blobs()
    volume = Volume(label[None].astype(np.float32) + 1, make_affine("PIL", degrees=15.0))
    plan = make_plan(channels=(ChannelPlan("x", "none"),))
    prepared = prepare(volume, Volume(label, volume.affine), plan)
    assert prepared.frame.shape == tuple(prepared.image.shape[1:]) == tuple(prepared.label.shape)
    assert prepared.frame.shape == tuple(
        round(n * s)
        for n, s in zip(
            np.array(label.shape)[list(prepared.frame.axes)],
            np.array(volume.spacing)[list(prepared.frame.axes)],
            strict=True,
        )
    )
    assert dice((prepared.image[0] > 1.5).numpy(), (prepared.label > 0).numpy()) > 0.98


def test_mr_figures_are_those_of_the_nonzero_voxels() -> None:
    image, _ = make_volumes(np.eye(4))
    prepared = prepare(image, None, make_plan())
    values = image.array[image.array != 0].astype(np.float64)
    low, high = np.percentile(values, (0.5, 99.5))
    clipped = values.clip(low, high)
    frame = prepared.frame
    assert (frame.low[0], frame.high[0], frame.mean[0], frame.std[0]) == pytest.approx(
        (low, high, clipped.mean(), clipped.std()), rel=1e-9
    )
    assert prepared.label is None
    assert prepared.image.min().item() == pytest.approx((low - clipped.mean()) / clipped.std(), rel=1e-5)


def test_ct_uses_the_plan_and_clips_the_spline_overshoot() -> None:
    array = np.where(np.indices((9, 9, 9)).sum(0) < 12, -1000, 900).astype(np.int16)[None]
    plan = make_plan((0.5, 0.7, 1.4), channels=(ChannelPlan("CT", "ct", -100.0, 200.0, 50.0, 60.0),))
    prepared = prepare(Volume(array, np.eye(4)), None, plan)
    assert prepared.image.min().item() == pytest.approx(-150 / 60)
    assert prepared.image.max().item() == pytest.approx(150 / 60)
    assert (prepared.frame.mean, prepared.frame.std) == ((50.0,), (60.0,))


def test_none_keeps_intensities_within_their_own_range() -> None:
    array = np.where(np.indices((9, 9, 9)).sum(0) < 12, 3.0, 7.0)[None]
    prepared = prepare(Volume(array, np.eye(4)), None, make_plan((0.6, 0.6, 0.6), channels=(ChannelPlan("x", "none"),)))
    assert (prepared.image.min().item(), prepared.image.max().item()) == (3.0, 7.0)


@pytest.mark.parametrize("value", [0.0, 0.1, -1.7e6])
@pytest.mark.parametrize("kind", ["mr", "clip", "none"])
def test_a_constant_image_has_no_nan(value: float, kind: str) -> None:
    array = np.full((1, 5, 6, 7), value, np.float32)
    channels = (ChannelPlan("x", kind, -10.0, 10.0),)
    prepared = prepare(Volume(array, np.eye(4)), None, make_plan((0.7, 1.3, 1.0), channels=channels))
    expected = torch.full_like(prepared.image, 0.0 if kind != "none" else float(np.float32(value)))
    # Only "clip" has room around the value, in which the resampled one may lie a rounding beside it.
    torch.testing.assert_close(
        prepared.image, expected, rtol=0, atol=rounding(np.clip(array, -10, 10)) if kind == "clip" else 0
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8", ">i2", "<u2", "int32", ">f4", "float64", "int64", "float16"])
def test_every_number_type_gives_the_same_image(dtype: str) -> None:
    array = np.random.default_rng(0).integers(1, 100, (1, 6, 5, 4))
    plan = make_plan((0.8, 1.1, 1.0))
    expected = prepare(Volume(array.astype(np.float32), np.eye(4)), None, plan).image
    torch.testing.assert_close(prepare(Volume(array.astype(dtype), np.eye(4)), None, plan).image, expected)


def test_large_samples_are_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).normal(100, 10, (1, 40, 40, 40))
    full = prepare(Volume(image, np.eye(4)), None, make_plan()).frame
    monkeypatch.setattr(module, "_SAMPLE", 10_000)
    thin = prepare(Volume(image, np.eye(4)), None, make_plan()).frame
    assert thin.mean[0] != full.mean[0]
    assert (thin.mean[0], thin.std[0]) == pytest.approx((full.mean[0], full.std[0]), abs=0.5)


def test_a_2d_image_stays_one_voxel_deep() -> None:
    image, label = make_volumes(np.diag([1.0, 1.0, 9.0, 1.0]), blobs((30, 40, 9))[:, :, 4:5])
    flat = Volume(100.0 + image.array[:, :, :, :1], image.affine)
    prepared = prepare(flat, label, make_plan((2.0, 0.5, 1.0)))
    assert tuple(prepared.image.shape) == (1, 15, 80, 1)
    assert dice(restored(prepared.label, prepared.frame) > 0, label.array > 0) > 0.9


def test_an_all_zero_image_is_kept_whole() -> None:
    prepared = prepare(Volume(np.zeros((1, 4, 5, 6)), np.eye(4)), None, make_plan())
    assert tuple(prepared.image.shape) == (1, 4, 5, 6)


def test_cropping_can_be_switched_off() -> None:
    image, _ = make_volumes(np.eye(4))
    assert prepare(image, None, make_plan(crop_nonzero=False)).frame.box_shape == image.shape
    assert prepare(image, None, make_plan()).frame.box_shape == (38, 36, 20)


def test_bad_input_is_refused_by_name() -> None:
    image, label = make_volumes(np.eye(4))
    with pytest.raises(ValueError, match=r"'a'.*1 channels \(MRI\), got 2"):
        prepare(Volume(np.ones((2, 4, 4, 4)), np.eye(4)), None, make_plan(), "a")
    with pytest.raises(ValueError, match=r"'a'.*label has shape"):
        prepare(image, Volume(label.array[:-1], np.eye(4)), make_plan(), "a")
    moved = np.eye(4)
    moved[0, 3] = 3.0
    for affine, problem in (
        (np.diag([-1.0, 1, 1, 1]), "elsewhere"),
        (moved, "elsewhere"),
        (np.eye(4) * 1.1, "spacing"),
    ):
        with pytest.raises(ValueError, match=rf"'a'.*the label .*{problem}"):
            prepare(image, Volume(label.array, affine), make_plan(), "a")
    with pytest.raises(ValueError, match=r"'a'.*\[3\] are not declared"):
        prepare(image, Volume(np.where(label.array == 4, 3, label.array), np.eye(4)), make_plan(), "a")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["ct", "mr", "none"])
def test_an_intensity_that_is_not_finite_is_refused_although_clipping_would_hide_it(value: float, kind: str) -> None:
    image, _ = make_volumes(np.eye(4))
    image.array[0, 20, 20, 10] = value
    plan = make_plan(channels=(ChannelPlan("x", kind, 0.0, 200.0, 100.0, 50.0),))
    with pytest.raises(ValueError, match=r"'a'.*NaN or infinite"):
        prepare(image, None, plan, "a")


@pytest.mark.parametrize("kind", ["zscore", "mr", "minmax", "none"])
@pytest.mark.parametrize("made", [frame_of, lambda volume, *rest: prepare(volume, None, *rest)])
def test_intensities_that_do_not_fit_float32_are_refused(kind: str, made: Callable[..., object]) -> None:
    array = make_volumes(np.eye(4))[0].array.astype(np.float64)
    array[0, :20] = 1e39
    with pytest.raises(ValueError, match=r"'a'.*do not fit float32"):
        made(Volume(array, np.eye(4)), make_plan(channels=(ChannelPlan("x", kind),)), "a")


def test_rounding_in_the_header_of_a_label_is_no_other_place() -> None:
    image, label = make_volumes(make_affine("PIL", degrees=15.0))
    rounded = Volume(label.array, label.affine.astype(np.float32).astype(float))
    found, expected = (prepare(image, one, make_plan()) for one in (rounded, label))
    assert torch.equal(found.label, expected.label)


def test_many_classes_are_prepared() -> None:
    array = np.arange(300).reshape(300, 1, 1)
    labels = LabelSet(tuple(map(str, range(300))), tuple(range(300)))
    plan = make_plan(labels=labels, crop_nonzero=False)
    prepared = prepare(Volume(np.ones((1, 300, 1, 1)), np.eye(4)), Volume(array, np.eye(4)), plan)
    assert prepared.label.dtype == torch.int32
    assert prepared.label.flatten().tolist() == list(range(300))
