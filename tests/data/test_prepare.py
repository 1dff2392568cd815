"""Preparation and its inverse, on volumes whose axes are permuted, flipped, oblique, anisotropic and odd."""

from __future__ import annotations

import weakref
from dataclasses import replace
from itertools import product

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from voxward.core.case import Frame, Volume
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan, Plan
from voxward.data import prepare as module
from voxward.data.orient import nonzero_box, orient, orientation
from voxward.data.prepare import (
    crop_frozen,
    paste,
    paste_frozen,
    prepare,
    prepare_frozen,
    restore_argmax,
    restore_labels,
    restore_logits,
)

LABELS = LabelSet(("background", "organ", "lesion"), (0, 1, 4))
SPACING = (0.8, 1.3, 3.1)


def make_plan(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), **changes) -> Plan:
    plan = Plan(
        dataset="test",
        labels=LABELS,
        channels=(ChannelPlan("MRI", "mr"),),
        spacing=spacing,
        spline_order=(3, 3, 3),
        crop_nonzero=True,
        patch_size=(8, 8, 8),
        window_size=(8, 8, 8),
        source_size=(8, 8, 8),
        strides=((2, 2, 2),),
        kernel_sizes=((3, 3, 3),) * 2,
        padding="reflect",
        batch_size=2,
        min_object_mm3=(0.0, 0.0),
    )
    return replace(plan, **changes)


def make_affine(code: str, spacing: tuple[float, float, float] = SPACING, degrees: float = 0.0) -> np.ndarray:
    """`code` names where each file axis points, e.g. PIL; the whole is then turned about two axes."""
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    matrix = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(code), (1, 1, 1))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = tilt @ turn @ np.linalg.inv(matrix) * np.array(spacing)
    affine[:3, 3] = (-30.0, 12.5, 7.0)
    return affine


def blobs(shape: tuple[int, int, int] = (41, 37, 23)) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    label = np.zeros(shape, np.uint8)
    label[(((grid - 0.1) / np.array([0.6, 0.7, 0.65]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 1] = 1
    label[((grid - np.array([0.2, 0.0, 0.1]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 0.12] = 4
    return label


def make_volumes(affine: np.ndarray, label: np.ndarray | None = None) -> tuple[Volume, Volume]:
    label = blobs() if label is None else label
    noise = np.random.default_rng(0).normal(0, 5, label.shape)
    image = np.zeros(label.shape, np.float32)
    image[2:-1, 1:, :-3] = (100 + 40.0 * label + noise)[2:-1, 1:, :-3]
    return Volume(image[None], affine), Volume(label, affine)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


CODES = [("RAS", 0.0), ("LPS", 0.0), ("PIL", 0.0), ("SRA", 20.0), ("ALI", -25.0)]


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
    restored = LABELS.to_values(restore_labels(prepared.label, prepared.frame))
    assert restored.shape == label.shape
    for value in (1, 4):
        assert dice(restored == value, label.array == value) > 0.95


@pytest.mark.parametrize(("code", "degrees"), CODES)
def test_the_same_spacing_is_the_identity(code: str, degrees: float) -> None:
    affine = make_affine(code, degrees=degrees)
    image, label = make_volumes(affine)
    axes, _ = orientation(affine)
    plan = make_plan(tuple(image.spacing[axis] for axis in axes))
    prepared = prepare(image, label, plan)
    frame = prepared.frame
    np.testing.assert_array_equal(LABELS.to_values(restore_labels(prepared.label, frame)), label.array * _inside(frame))
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
    torch.testing.assert_close(prepared.image, expected, rtol=0, atol=1e-7 if kind == "clip" else 0)


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
    assert dice(restore_labels(prepared.label, prepared.frame) > 0, label.array > 0) > 0.9


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


def test_rounding_in_the_header_of_a_label_is_no_other_place() -> None:
    image, label = make_volumes(make_affine("PIL", degrees=15.0))
    prepare(image, Volume(label.array, label.affine.astype(np.float32).astype(float)), make_plan())


def test_many_classes_are_prepared() -> None:
    array = np.arange(300).reshape(300, 1, 1)
    labels = LabelSet(tuple(map(str, range(300))), tuple(range(300)))
    plan = make_plan(labels=labels, crop_nonzero=False)
    prepared = prepare(Volume(np.ones((1, 300, 1, 1)), np.eye(4)), Volume(array, np.eye(4)), plan)
    assert prepared.label.dtype == torch.int32
    assert prepared.label.flatten().tolist() == list(range(300))


def random_frame(shape: tuple[int, int, int], box: tuple[int, int, int], code: str) -> Frame:
    axes, flips = orientation(make_affine(code))
    oriented = tuple(n + 3 for n in box)
    source = tuple(oriented[axes.index(n)] for n in range(3))
    one = (1.0,)
    rows = ((1.0, 0.0, 0.0, 0.0),) * 4
    stop = (box[0] + 1, box[1] + 2, box[2])
    return Frame(source, rows, axes, flips, (1, 2, 0), stop, shape, one, one, one, one)


@pytest.mark.parametrize("code", ["RAS", "PIL", "SRA"])
@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((9, 7, 5), (21, 16, 13)),
        ((21, 16, 13), (9, 7, 5)),
        ((7, 20, 6), (7, 9, 15)),
        ((1, 5, 6), (4, 5, 6)),
        ((6, 5, 1), (1, 9, 1)),
    ],
)
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_streamed_argmax_equals_the_whole(code, shape, box, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = random_frame(shape, box, code)
    logits = torch.randn(4, *shape)
    expected = paste(restore_logits(logits, frame).argmax(0).numpy().astype(np.uint8), frame)
    # An independent interpolation agrees with the whole-volume path.
    zoomed = [_linear(channel.numpy(), box) for channel in logits]
    assert (paste(np.argmax(zoomed, 0).astype(np.uint8), frame) == expected).mean() > 0.999
    for budget, axis in product((module._SLAB, 300), range(3)):
        monkeypatch.setattr(module, "_SLAB", budget)
        found = restore_argmax((slab for slab in logits.split(rows, dim=axis + 1)), frame, axis)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("length", [12, 7, 30])
def test_a_slab_is_let_go_before_the_next_is_made(axis: int, length: int) -> None:
    shape, box = [4, 4, 4], [4, 4, 4]
    shape[axis], box[axis] = 12, length
    made: list[weakref.ref[torch.Tensor]] = []

    def slab() -> torch.Tensor:
        assert all(ref() is None for ref in made)
        size = [3, *shape]
        size[axis + 1] = 4
        storage = torch.randn(size)
        made.append(weakref.ref(storage))
        return storage

    found = restore_argmax((slab() for _ in range(3)), random_frame(tuple(shape), tuple(box), "RAS"), axis)
    assert len(made) == 3
    assert found.any()


def _linear(x: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    axes = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(x.shape, shape, strict=True)]
    return ndimage.map_coordinates(x.astype(np.float64), np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")


def test_many_classes_need_two_bytes() -> None:
    frame = random_frame((2, 2, 2), (2, 2, 2), "RAS")
    logits = torch.zeros(300, 2, 2, 2)
    logits[299] = 1
    found = restore_argmax([logits], frame)
    assert found.dtype == np.uint16
    assert found.max() == 299


def test_slabs_that_do_not_fit_are_refused() -> None:
    frame = random_frame((4, 3, 3), (6, 5, 4), "RAS")
    for slabs, message in (
        ([torch.zeros(2, 3, 3, 3)], "slabs end"),
        ([], "slabs end"),
        ([torch.zeros(2, 4, 3, 3), torch.zeros(2, 1, 3, 3)], "does not fit"),
        ([torch.zeros(2, 4, 3, 2)], "does not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            restore_argmax(slabs, frame)
    with pytest.raises(ValueError, match="prepared shape"):
        restore_logits(torch.zeros(2, 3, 3, 3), frame)
    with pytest.raises(ValueError, match="prepared shape"):
        restore_labels(torch.zeros(3, 3, 3, dtype=torch.uint8), frame)
    with pytest.raises(ValueError, match="crop box"):
        paste(np.zeros((1, 1, 1)), frame)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.7, 2.4), SPACING])
@pytest.mark.parametrize(("code", "degrees"), CODES)
@pytest.mark.parametrize("kind", ["mr", "ct", "clip", "none"])
def test_frozen_preparation_equals_preparation(code: str, degrees: float, spacing, kind: str) -> None:
    image, _ = make_volumes(make_affine(code, degrees=degrees))
    two = Volume(np.concatenate([image.array, 3 * image.array[:, ::-1]]), image.affine)
    plan = make_plan(spacing, channels=(ChannelPlan("a", kind, 50.0, 150.0, 90.0, 30.0), ChannelPlan("b", "mr")))
    prepared = prepare(two, None, plan)
    assert prepared.frame.box_shape != orient(two.array[0], prepared.frame.axes, prepared.frame.flips).shape
    frozen = prepare_frozen(torch.from_numpy(two.array)[None], prepared.frame, plan)
    assert frozen.dtype == torch.float32
    torch.testing.assert_close(frozen[0], prepared.image, rtol=1e-6, atol=1e-6)
    double = prepare_frozen(torch.from_numpy(two.array)[None].double(), prepared.frame, plan)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double[0], prepared.image.double(), rtol=1e-4, atol=1e-4)


def test_frozen_preparation_is_differentiable() -> None:
    """Away from the clipping the derivative along any direction is the difference quotient, zero outside the box."""
    array = np.zeros((1, 7, 6, 5))
    array[0, 1:, :-1, 1:] = np.random.default_rng(0).uniform(10, 20, (6, 5, 4))
    plan = make_plan((0.9, 1.1, 2.0))
    frame = prepare(Volume(array, make_affine("PIL")), None, plan).frame
    volume = torch.from_numpy(np.stack([array, array[:, ::-1].copy()])).requires_grad_()
    torch.autograd.gradcheck(lambda x: prepare_frozen(x, frame, plan), (volume,), eps=1e-6, atol=1e-7)
    (gradient,) = torch.autograd.grad(prepare_frozen(volume, frame, plan).sum(), volume)
    assert not gradient[:, 0, 0].any()
    with pytest.raises(ValueError, match=r"volume must be \(b, c, i, j, k\) with \(1, 7, 6, 5\)"):
        prepare_frozen(volume.detach()[..., 1:], frame, plan)


@pytest.mark.parametrize(("code", "degrees"), CODES)
def test_tensors_are_cropped_and_pasted_like_arrays(code: str, degrees: float) -> None:
    image, _ = make_volumes(make_affine(code, degrees=degrees))
    frame = prepare(image, None, make_plan()).frame
    box = torch.rand(2, *frame.box_shape)
    pasted = paste_frozen(box, frame, torch.tensor([5.0, 7.0]))
    outside = paste(np.ones(frame.box_shape, np.uint8), frame) == 0
    for channel, value, whole in zip(box, (5.0, 7.0), pasted, strict=True):
        np.testing.assert_array_equal(whole.numpy(), np.where(outside, value, paste(channel.numpy(), frame)))
    assert torch.equal(crop_frozen(pasted, frame), box)
