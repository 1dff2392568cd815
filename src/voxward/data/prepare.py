"""From a file's voxels to what a network is fed, and back. The two directions stand side by side and change together.

    prepare         Volume, label -> PreparedCase     orient, crop, resample, clip, normalise
    prepare_frozen  volumes       -> images           the same with the crop box of a frame, differentiable
    restore_labels  class map     -> file's voxels    resample, paste
    restore_logits  logits        -> crop box         resample linearly
    restore_argmax  logit slabs   -> file's voxels    the same with argmax and paste, one slab at a time
    paste           crop box      -> file's voxels    un-crop, un-flip, un-transpose
    crop_frozen, paste_frozen                         file's voxels -> crop box and back, for tensors

Clipping comes after resampling, so that it also cuts off the overshoot of cubic splines; the figures it uses are
those of the source's own voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import DTypeLike
from torch import Tensor

from voxward.core.case import Frame, PreparedCase, Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet, largest
from voxward.core.plan import Plan
from voxward.core.types import CaseLabels, CaseLogits, LabelArray, Size3
from voxward.data.orient import box_slices, nonzero_box, orient, orientation
from voxward.data.resample import apply_matrices, axis_matrix, resample, resample_labels
from voxward.data.statistics import Figures, LiveFigures, LiveNumbers, box_figures, live_figures
from voxward.data.volume_file import label_fault

# Logits (all classes of some rows) that are restored at once: 8 MiB in float32.
_SLAB = 2**21
_LARGEST = float(np.finfo(np.float32).max)


def prepare(
    volume: Volume, label: Volume | None, plan: Plan, id: str = "", figures: Figures | None = None
) -> PreparedCase:
    """Orient to RAS, crop to non-zero voxels (if the plan says so), resample to the plan's spacing, clip and normalise.

    An axis of one voxel (a 2D image) stays one voxel, and every axis keeps its voxels where the plan does not resample.
    A label holds file values, in the image's voxels. figures: what `measured` gave for the volume that this one is a
    part of, so that a part is normalised like the whole.
    Raises ValueError when the volume does not fit the plan (channels), the label does not fit the volume (shape,
    affine, undeclared values), or an intensity is not finite; the message names the case by `id`.
    """
    _check(volume, label, plan, id)
    frame, box = _framed(volume, plan, id, figures)
    image = _normalised(box, frame, plan)
    if not all(bool(torch.isfinite(channel).all()) for channel in image):
        raise UserError(f"case {id!r}: the normalised intensities do not fit float32")
    return PreparedCase(id, image, _prepared_label(label, frame, plan.labels, id), frame)


def frame_of(volume: Volume, plan: Plan, id: str = "", figures: Figures | None = None) -> Frame:
    """The frame alone that `prepare` gives a volume. Raises ValueError as it does, for the channels."""
    _check(volume, None, plan, id)
    return _framed(volume, plan, id, figures)[0]


def _framed(volume: Volume, plan: Plan, id: str, figures: Figures | None) -> tuple[Frame, np.ndarray]:
    """The frame, and the crop box (c, d, h, w) in RAS order."""
    axes, flips = orientation(volume.affine)
    source = orient(volume.array, axes, flips)
    start, stop = _crop_box(source, plan)
    box = source[(slice(None), *box_slices(start, stop))]
    _check_finite(box, id)
    spacing = [volume.spacing[axis] for axis in axes] if plan.resample else plan.spacing
    shape = _size3(
        max(1, round(count * old / new)) if whole > 1 else 1
        for whole, count, old, new in zip(source.shape[1:], box.shape[1:], spacing, plan.spacing, strict=True)
    )
    low, high, mean, std = zip(*(figures or box_figures(box, plan)), strict=True)
    if not all(abs(figure) <= _LARGEST for figure in (*low, *high, *mean, *std)):
        raise UserError(f"case {id!r}: the intensities do not fit float32")
    return Frame(volume.shape, _affine_tuple(volume.affine), axes, flips, start, stop, shape, low, high, mean, std), box


def measured(volume: Volume, plan: Plan, id: str = "") -> Figures:
    """What `prepare` normalises each channel of a volume with.

    Raises ValueError as `prepare` does, for the channels.
    """
    _check(volume, None, plan, id)
    source = orient(volume.array, *orientation(volume.affine))
    return box_figures(source[(slice(None), *box_slices(*_crop_box(source, plan)))], plan)


def measured_live(volume: Float[Tensor, "c i j k"], frame: Frame, plan: Plan) -> LiveFigures:
    """What `measured` gives for a volume in the file's voxels, with the crop box of `frame`, to rounding.

    Differentiable: see `live_figures`.
    """
    return live_figures(crop_frozen(volume, frame), plan)


def prepare_frozen(
    volume: Float[Tensor, "b c i j k"], frame: Frame, plan: Plan, figures: LiveFigures | None = None
) -> Float[Tensor, "b c d h w"]:
    """Volumes in the file's voxels and intensities, prepared with the crop box and the figures that `frame` holds.

    Equals `prepare(...).image` on the volume that the frame was made from. Differentiable; a voxel on the rim of
    [low, high] lets the gradient pass. Keeps number type and device. figures: take these instead, see `measured_live`.
    Raises ValueError when the volume does not have the plan's channels or the frame's shape.
    """
    expected = (len(plan.channels), *frame.source_shape)
    if tuple(volume.shape[1:]) != expected:
        raise UserError(f"volume must be (b, c, i, j, k) with {expected} after b, got {tuple(volume.shape)}")
    box, numbers = crop_frozen(volume, frame), figures or _held(frame)
    return torch.stack([_scaled(box[:, n], n, numbers[n], frame, plan) for n in range(len(plan.channels))], dim=1)


def crop_frozen(x: Shaped[Tensor, "... i j k"], frame: Frame) -> Shaped[Tensor, "... d h w"]:
    """The crop box, in RAS order, of a tensor in the file's voxels. Differentiable."""
    lead = x.ndim - 3
    turned = x.permute(*range(lead), *(lead + axis for axis in frame.axes))
    return _flipped(turned, frame)[(..., *box_slices(frame.box_start, frame.box_stop))]


def paste_frozen(
    box: Float[Tensor, "k d h w"], frame: Frame, outside: Float[Tensor, " k"]
) -> Float[Tensor, "k i j k2"]:
    """A tensor of the crop box (RAS order) in the file's voxels; `outside` holds elsewhere. Differentiable."""
    shape = _size3(frame.source_shape[axis] for axis in frame.axes)
    if shape != frame.box_shape:
        whole = outside.view(-1, 1, 1, 1).expand(-1, *shape).clone()
        whole[(slice(None), *box_slices(frame.box_start, frame.box_stop))] = box
        box = whole
    return _flipped(box, frame).permute(0, *(1 + frame.axes.index(axis) for axis in range(3)))


def restore_labels(label: CaseLabels | LabelArray, frame: Frame) -> np.ndarray:
    """A prepared class map (d, h, w) in the source file's own shape and voxel order; 0 outside the crop box.

    Linear interpolation of each class, then the largest. Exact when the prepared spacing is the source's.
    """
    index = torch.as_tensor(label)
    if tuple(index.shape) != frame.shape:
        raise UserError(f"label must have the prepared shape {frame.shape}, got {tuple(index.shape)}")
    return paste(resample_labels(index, frame.box_shape, int(index.max()) + 1).cpu().numpy(), frame)


def restore_logits(logits: CaseLogits, frame: Frame) -> Float[Tensor, "k d2 h2 w2"]:
    """Prepared logits (k, d, h, w), resampled linearly to the crop box: (k, *frame.box_shape), still in RAS order."""
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
        maps = maps or _blank(frame, np.uint8 if len(logits) <= 256 else np.uint16)
        rows = slice(first, first + logits.shape[axis + 1])
        maps[1][(slice(None),) * axis + (rows,)] = read(logits).cpu().numpy()
    if maps is None:
        raise UserError(f"there are no slabs for the prepared shape {frame.shape}")
    return maps[0]


def restored_rows(slabs: Iterable[Tensor], frame: Frame, axis: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Resample logits that arrive in slabs to the crop box, and yield its rows as soon as they are complete.

    Args:
        slabs: Logits (k, d, h, w) that follow each other along the spatial `axis` and together have `frame.shape`.
        frame: How the prepared array lies in its source file.
        axis: The spatial axis (0, 1, 2) along which slabs and rows follow each other.

    Yields:
        The number of a row of the crop box along `axis`, and the logits (k, ...) of that row and some that follow it,
        in RAS order. All together have `frame.box_shape`.

    Raises:
        UserError: The slabs do not make up `frame.shape`.
    """
    matrix = axis_matrix(frame.shape[axis], frame.box_shape[axis], 1)
    held: Tensor | None = None
    first = seen = done = 0
    for slab in slabs:
        _check_slab(slab, seen, frame, axis)
        held = slab if held is None or not held.shape[axis + 1] else torch.cat((held, slab), dim=axis + 1)
        del slab  # or it would live on while the next one is made
        seen = first + held.shape[axis + 1]
        ready = _ready(matrix, seen, frame.shape[axis])
        yield from _resampled_rows(held, first, range(done, ready), frame, axis)
        keep, done = min(_next_needed(matrix, seen, frame.shape[axis]), seen), ready
        # A clone, because a view of the few rows still needed would keep the whole slab.
        held, first = held.narrow(axis + 1, keep - first, seen - keep).clone(), keep
    if done < frame.box_shape[axis]:
        raise UserError(f"the slabs end before the prepared shape {frame.shape} is complete")


def paste(box: np.ndarray, frame: Frame) -> np.ndarray:
    """An array of the crop box (RAS order) in the source file's shape and voxel order; 0 outside the box."""
    if box.shape != frame.box_shape:
        raise UserError(f"box must have the shape of the crop box {frame.box_shape}, got {box.shape}")
    whole, part = _blank(frame, box.dtype)
    part[:] = box
    return whole


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
    """The channels of `box`, one at a time so that only one is held twice."""
    image = torch.empty((len(box), *frame.shape), dtype=torch.float32)
    for n, channel in enumerate(box):
        if plan.channels[n].normalization == "zscore":
            image[n].copy_(_scaled(_tensor(channel).float(), n, _held(frame)[n], frame, plan))
        else:
            image[n].copy_(resample(_tensor(channel), frame.shape, plan.spline_order))
            image[n].clamp_(frame.low[n], frame.high[n]).sub_(frame.mean[n]).div_(frame.std[n])
    return image


def _scaled(x: Tensor, n: int, numbers: LiveNumbers, frame: Frame, plan: Plan) -> Tensor:
    """Channel n (..., d, h, w), resampled and normalised by these numbers. Differentiable, also in them."""
    low, high, mean, std = numbers
    if plan.channels[n].normalization == "zscore":
        # Before resampling: what lies between brain and background is then between their normalised values.
        return resample(torch.where(x != 0, (x - mean) / std, torch.zeros_like(x)), frame.shape, plan.spline_order)
    resampled = resample(x, frame.shape, plan.spline_order)
    if isinstance(low, Tensor) or isinstance(high, Tensor):  # clamp takes two numbers or two tensors
        clipped = resampled.clamp(torch.as_tensor(low).to(x), torch.as_tensor(high).to(x))
    else:
        clipped = resampled.clamp(low, high)
    return clipped.sub(mean).div(std)


def _prepared_label(label: Volume | None, frame: Frame, labels: LabelSet, id: str) -> Tensor | None:
    if label is None:
        return None
    box = orient(label.array, frame.axes, frame.flips)[box_slices(frame.box_start, frame.box_stop)]
    try:
        index = labels.to_index(box)
    except UserError as error:
        raise UserError(f"case {id!r}: {error}") from error
    if index.dtype != np.uint8:
        index = index.astype(np.int32)  # torch computes little with uint16
    return resample_labels(torch.from_numpy(index), frame.shape, labels.count)


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor of the same values; number types that torch computes badly with become float32."""
    if array.dtype.newbyteorder("=") not in (np.uint8, np.int8, np.int16, np.int32, np.float32):
        return torch.from_numpy(array.astype(np.float32))
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    # NumPy calls a flipped axis of one voxel contiguous; PyTorch does not.
    return torch.from_numpy(native if min(native.strides) >= 0 else native.copy())


def _flipped(x: Tensor, frame: Frame) -> Tensor:
    """Flip the last three axes, in RAS order, as the frame says; its own inverse."""
    dims = [axis - 3 for axis, flip in enumerate(frame.flips) if flip]
    return x.flip(dims) if dims else x


def _check_slab(slab: Tensor, row: int, frame: Frame, axis: int) -> None:
    fits = slab.ndim == 4 and all(
        row + length <= whole if n == axis else length == whole
        for n, (length, whole) in enumerate(zip(slab.shape[1:], frame.shape, strict=True))
    )
    if not fits:
        raise UserError(f"slab {tuple(slab.shape)} at row {row} does not fit the prepared shape {frame.shape}")


def _resampled_rows(held: Tensor, first: int, rows: range, frame: Frame, axis: int) -> Iterator[tuple[int, Tensor]]:
    """The logits of `rows` of the crop box, along `axis`, from those whose rows there begin with `first`, in slabs."""
    matrices = [None if n == m else axis_matrix(n, m, 1) for n, m in zip(frame.shape, frame.box_shape, strict=True)]
    along = matrices[axis]
    area = max(int(np.prod(shape)) // shape[axis] for shape in (frame.shape, frame.box_shape))
    step = max(1, _SLAB // (len(held) * area))
    for begin in range(rows.start, rows.stop, step):
        end = min(begin + step, rows.stop)
        low, high = (begin, end) if along is None else _support(along, begin, end)
        matrices[axis] = None if along is None else along[begin:end, low:high]
        d, h, w = matrices
        yield begin, apply_matrices(held.narrow(axis + 1, low - first, high - low).float(), (d, h, w))


def _support(matrix: Tensor, begin: int, end: int) -> tuple[int, int]:
    """The range of input rows that output rows begin:end draw on."""
    columns = torch.nonzero(matrix[begin:end].any(dim=0)).flatten()
    return int(columns[0]), int(columns[-1]) + 1


def _ready(matrix: Tensor, seen: int, total: int) -> int:
    """How many output rows draw only on the first `seen` of `total` input rows."""
    return len(matrix) if seen == total else int((~matrix[:, seen:].any(dim=1)).sum())


def _next_needed(matrix: Tensor, seen: int, total: int) -> int:
    """The first input row that the output rows still to come draw on."""
    ready = _ready(matrix, seen, total)
    return total if ready == len(matrix) else _support(matrix, ready, ready + 1)[0]


def _blank(frame: Frame, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray]:
    """Zeros in the source file's shape and voxel order, and the view of them that is the crop box in RAS order."""
    whole = np.zeros(frame.source_shape, dtype)
    return whole, orient(whole, frame.axes, frame.flips)[box_slices(frame.box_start, frame.box_stop)]


def _affine_tuple(affine: np.ndarray) -> tuple[tuple[float, float, float, float], ...]:
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in affine)


def _size3(values: Iterable[int]) -> Size3:
    i, j, k = values
    return i, j, k
