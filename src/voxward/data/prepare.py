"""From a file's voxels to what a network is fed, and back. The two directions stand side by side and change together.

    prepare         Volume, label -> PreparedCase     orient, crop, resample, normalise
    prepare_frozen  volumes       -> images           the same with the crop box of a frame, differentiable
    restore_logits  logits        -> crop box         resample linearly
    restore_argmax  logit slabs   -> file's voxels    the same, then argmax and paste, one slab at a time

The crop box is cut out and pasted back in `crop`. How intensities change is the business of `normalization`; the
numbers that they are normalised with are measured on the crop box before it is resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.case import ClassKept, Frame, LabelKept, PreparedCase, Volume
from voxward.core.errors import UserError
from voxward.core.labels import IGNORED, largest
from voxward.core.plan import Plan
from voxward.core.spacing import voxel_mm3
from voxward.core.types import CaseLogits, Size3
from voxward.data.crop import blank, crop_frozen
from voxward.data.normalization import normalization_of
from voxward.data.orient import box_slices, nonzero_box, orient, orientation
from voxward.data.places import label_fault
from voxward.data.resample import resample
from voxward.data.resample_labels import as_index, labelled_box, resample_counted
from voxward.data.resample_rows import resampled_rows
from voxward.data.sizes import check_prepared_shape
from voxward.data.statistics import Figures, LiveFigures, box_figures, live_figures

_LARGEST = float(np.finfo(np.float32).max)


def prepare(
    volume: Volume, label: Volume | None, plan: Plan, id: str = "", figures: Figures | None = None
) -> PreparedCase:
    """Turn a volume into what a network is fed.

    The volume is oriented to RAS, cropped to its non-zero voxels (if the plan says so), resampled to the plan's spacing
    (if the plan says so) and normalised. An axis of one voxel, as 2D images have, stays one voxel. With a label, the
    crop box holds all labelled voxels, too; what the image is normalised with is measured without these.

    Args:
        volume: The image, in the file's voxels and intensities.
        label: The ground truth, with the file's values in the image's voxels; None without one.
        plan: The plan.
        id: The case's id, which error messages name.
        figures: What to normalise with, from `measured`; None measures the volume itself. A part of a volume is
            normalised like the whole with the figures of the whole.

    Returns:
        The normalised image (c, d, h, w), float32; the class indices (d, h, w), with a count of what is left of each
        class; and how both lie in the file.

    Raises:
        UserError: The volume has not the plan's channels, the label does not fit the volume (shape, affine, undeclared
            values), an intensity is not finite or does not fit float32, or the plan names an unknown normalisation.
    """
    _check(volume, label, plan, id)
    frame, box, outside = _framed(volume, plan, id, figures, label)
    image = _normalised(box, frame, plan)
    if not all(bool(torch.isfinite(channel).all()) for channel in image):
        raise UserError(f"case {id!r}: the normalised intensities do not fit float32")
    if label is None:
        return PreparedCase(id, image, None, frame)
    prepared, kept = _prepared_label(label, frame, plan, id)
    return PreparedCase(id, image, prepared, frame, LabelKept(kept, outside))


def frame_of(volume: Volume, plan: Plan, id: str = "", figures: Figures | None = None) -> Frame:
    """Return how the prepared array will lie in its file, without resampling or normalising anything.

    Args:
        volume: The image, in the file's voxels and intensities.
        plan: The plan.
        id: The case's id, which error messages name.
        figures: What to normalise with, from `measured`; None measures the volume itself.

    Returns:
        The frame that `prepare` returns for the same volume.

    Raises:
        UserError: The volume has not the plan's channels, an intensity is not finite or does not fit float32, or the
            plan names an unknown normalisation.
    """
    _check(volume, None, plan, id)
    return _framed(volume, plan, id, figures)[0]


def measured(volume: Volume, plan: Plan, id: str = "") -> Figures:
    """Return the numbers that `prepare` normalises each channel of a volume with.

    Args:
        volume: The image, in the file's voxels and intensities.
        plan: The plan.
        id: The case's id, which error messages name.

    Returns:
        Per channel low, high, mean and standard deviation, in the file's intensity unit.

    Raises:
        UserError: The volume has not the plan's channels, or the plan names an unknown normalisation.
    """
    _check(volume, None, plan, id)
    source = orient(volume.array, *orientation(volume.affine))
    return box_figures(source[(slice(None), *box_slices(*_crop_box(source, plan)))], plan)


def measured_live(volume: Float[Tensor, "c i j k"], frame: Frame, plan: Plan) -> LiveFigures:
    """Return what `measured` returns for a volume with the crop box of a frame, so that autograd can follow it.

    Args:
        volume: A volume (c, i, j, k) in the file's voxels and intensities.
        frame: The frame of the clean volume, whose crop box is held.
        plan: The plan.

    Returns:
        Per channel low, high, mean and standard deviation, equal to those of `measured` up to rounding.
    """
    return live_figures(crop_frozen(volume, frame), plan)


def prepare_frozen(
    volume: Float[Tensor, "b c i j k"], frame: Frame, plan: Plan, figures: LiveFigures | None = None
) -> Float[Tensor, "b c d h w"]:
    """Prepare volumes with the crop box that a frame holds. Differentiable.

    For the volume that the frame was made from, the result equals `prepare(...).image`. A voxel at an end of an
    intensity range lets the gradient pass.

    Args:
        volume: Volumes (b, c, i, j, k) in the file's voxels and intensities.
        frame: The frame of the clean volume.
        plan: The plan.
        figures: What to normalise with, from `measured_live`; None takes the numbers that the frame holds.

    Returns:
        Normalised images (b, c, d, h, w), in the number type and on the device of `volume`.

    Raises:
        UserError: The volume has not the plan's channels, or not the shape of the frame's file.
    """
    expected = (len(plan.channels), *frame.source_shape)
    if tuple(volume.shape[1:]) != expected:
        raise UserError(f"volume must be (b, c, i, j, k) with {expected} after b, got {tuple(volume.shape)}")
    box, channels = crop_frozen(volume, frame), []
    for n, numbers in enumerate(figures or _held(frame)):
        normalization = normalization_of(plan.channels[n])
        before = normalization.before_resampling(box[:, n], numbers)
        resampled = resample(before, frame.shape, plan.spline_order)
        channels.append(normalization.after_resampling(resampled, numbers))
    return torch.stack(channels, dim=1)


def restore_logits(logits: CaseLogits, frame: Frame) -> Float[Tensor, "k d2 h2 w2"]:
    """Resample prepared logits linearly to the crop box.

    Args:
        logits: Logits (k, d, h, w) of the prepared case.
        frame: How the prepared array lies in its file.

    Returns:
        Logits (k, d2, h2, w2) of shape `frame.box_shape`, still in RAS order.

    Raises:
        UserError: `logits` has not the prepared shape.
    """
    if tuple(logits.shape[1:]) != frame.shape:
        raise UserError(f"logits must have the prepared shape {frame.shape}, got {tuple(logits.shape[1:])}")
    return resample(logits, frame.box_shape, (1, 1, 1))


Read = Callable[[Tensor], Tensor]
"""From logits (k, d, h, w) to class indices (d, h, w), voxel by voxel."""


def restore_argmax(slabs: Iterable[Tensor], frame: Frame, axis: int = 0, read: Read = largest) -> np.ndarray:
    """Turn logits that arrive in slabs into the class map of the source file, without ever holding all logits.

    Equals `paste(restore_logits(all).argmax(0))`.

    Args:
        slabs: Logits (k, d, h, w) that follow each other along the spatial `axis` and together have `frame.shape`.
        frame: How the prepared array lies in its source file.
        axis: The spatial axis (0, 1, 2) along which the slabs follow each other.
        read: What a voxel's logits mean, by default their largest (regions: core.labels.LabelSet.read).

    Returns:
        Class indices (i, j, k) in the file's shape and voxel order, uint8 or uint16; 0 outside the crop box.

    Raises:
        UserError: The slabs do not make up `frame.shape`.
    """
    maps: tuple[np.ndarray, np.ndarray] | None = None
    for first, logits in restored_rows(slabs, frame, axis):
        maps = maps or blank(frame, np.uint8 if len(logits) <= 256 else np.uint16)
        rows = slice(first, first + logits.shape[axis + 1])
        maps[1][(slice(None),) * axis + (rows,)] = read(logits).cpu().numpy()
        del logits  # or it would live on while the next slab is made
    if maps is None:
        raise UserError(f"there are no slabs for the prepared shape {frame.shape}")
    return maps[0]


def restored_rows(slabs: Iterable[Tensor], frame: Frame, axis: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Resample logits that arrive in slabs to the crop box, and yield its rows as soon as they are complete.

    Args:
        slabs: Logits (k, d, h, w) that follow each other along the spatial `axis` and together have `frame.shape`.
        frame: How the prepared array lies in its source file.
        axis: The spatial axis (0, 1, 2) along which slabs and rows follow each other.

    Returns:
        An iterator over the number of a row of the crop box along `axis`, with the logits (k, ...) of that row and some
        that follow it, in RAS order. All together have `frame.box_shape`. It raises UserError where the slabs do not
        make up `frame.shape`.
    """
    return resampled_rows(slabs, frame.shape, frame.box_shape, axis)


def _framed(
    volume: Volume, plan: Plan, id: str, figures: Figures | None, label: Volume | None = None
) -> tuple[Frame, np.ndarray, int]:
    """The frame, the crop box (c, d, h, w) in RAS order, and how many labelled voxels lie outside the non-zero box."""
    axes, flips = orientation(volume.affine)
    source, outside = orient(volume.array, axes, flips), 0
    start, stop = _crop_box(source, plan)
    box = source[(slice(None), *box_slices(start, stop))]
    _check_finite(box, id)
    figures = figures or box_figures(box, plan)
    if label is not None:
        truth = orient(label.array, axes, flips)
        start, stop, outside = labelled_box(truth, plan.labels.values[1:], start, stop)
        box = source[(slice(None), *box_slices(start, stop))]
    spacing = [volume.spacing[axis] for axis in axes] if plan.resample else plan.spacing
    shape = _size3(
        max(1, round(count * old / new)) if whole > 1 else 1
        for whole, count, old, new in zip(source.shape[1:], box.shape[1:], spacing, plan.spacing, strict=True)
    )
    check_prepared_shape(id, _size3(box.shape[1:]), shape, len(box), (spacing, plan.spacing))
    low, high, mean, std = zip(*figures, strict=True)
    if not all(abs(figure) <= _LARGEST for figure in (*low, *high, *mean, *std)):
        raise UserError(f"case {id!r}: the intensities do not fit float32")
    frame = Frame(
        source_shape=volume.shape,
        affine=_affine_tuple(volume.affine),
        axes=axes,
        flips=flips,
        box_start=start,
        box_stop=stop,
        shape=shape,
        low=low,
        high=high,
        mean=mean,
        std=std,
    )
    return frame, box, outside


def _check(volume: Volume, label: Volume | None, plan: Plan, id: str) -> None:
    if volume.array.ndim != 4 or volume.array.size == 0:
        raise UserError(f"case {id!r}: an image is a non-empty array (c, i, j, k), got shape {volume.array.shape}")
    if len(volume.array) != len(plan.channels):
        names = ", ".join(channel.name for channel in plan.channels)
        raise UserError(f"case {id!r}: the plan has {len(plan.channels)} channels ({names}), got {len(volume.array)}")
    if label is not None and (fault := label_fault(volume, label)) is not None:
        raise UserError(f"case {id!r}: {fault}")


def _check_finite(box: np.ndarray, id: str) -> None:
    """Before anything is clipped, because clipping hides an infinite voxel. Plane by plane: a mask takes memory too."""
    if box.dtype.kind == "f" and not all(np.isfinite(plane).all() for channel in box for plane in channel):
        raise UserError(f"case {id!r}: the image holds NaN or infinite voxels")


def _crop_box(source: np.ndarray, plan: Plan) -> tuple[Size3, Size3]:
    return nonzero_box(source) if plan.crop_nonzero else ((0, 0, 0), _size3(source.shape[1:]))


def _held(frame: Frame) -> Figures:
    return tuple(zip(frame.low, frame.high, frame.mean, frame.std, strict=True))


def _normalised(box: np.ndarray, frame: Frame, plan: Plan) -> Tensor:
    """The channels of `box`, one at a time, the last step in place and plane by plane: nothing whole is held twice."""
    image = torch.empty((len(box), *frame.shape), dtype=torch.float32)
    for n, (channel, numbers) in enumerate(zip(box, _held(frame), strict=True)):
        normalization = normalization_of(plan.channels[n])
        before = normalization.before_resampling(_tensor(channel), numbers)
        image[n].copy_(resample(before, frame.shape, plan.spline_order))
        del before
        for plane in image[n].unsqueeze(1):
            plane.copy_(normalization.after_resampling(plane, numbers))
    return image


def _prepared_label(label: Volume, frame: Frame, plan: Plan, id: str) -> tuple[Tensor, tuple[ClassKept, ...]]:
    box = orient(label.array, frame.axes, frame.flips)[box_slices(frame.box_start, frame.box_stop)]
    try:
        index = plan.labels.to_index(box)
    except UserError as error:
        raise UserError(f"case {id!r}: {error}") from error
    labels, unknown = plan.labels, plan.labels.ignore is not None
    if unknown:  # "not annotated" votes like a class, and stays what it is
        index = np.where(index == IGNORED, labels.count, index).astype(index.dtype)
    prepared, counts = resample_counted(as_index(index), frame.shape, labels.count, plan.label_resampling, unknown)
    if unknown:
        prepared = prepared.masked_fill(prepared == labels.count, IGNORED)
    voxel = voxel_mm3(label.spacing)
    after = voxel * index.size / prepared.numel()
    kept = (ClassKept(n.index, n.before * voxel, n.after * after, n.objects, n.left) for n in counts)
    return prepared, tuple(kept)


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor of the same values; number types that torch computes badly with become float32."""
    if array.dtype.newbyteorder("=") not in (np.uint8, np.int8, np.int16, np.int32, np.float32):
        return torch.from_numpy(array.astype(np.float32))
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    # NumPy calls a flipped axis of one voxel contiguous; PyTorch does not.
    return torch.from_numpy(native if min(native.strides) >= 0 else native.copy())


def _affine_tuple(affine: np.ndarray) -> tuple[tuple[float, float, float, float], ...]:
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in affine)


def _size3(values: Iterable[int]) -> Size3:
    i, j, k = values
    return i, j, k
