"""From a file's voxels to what a network is fed, and back. The two directions stand side by side and change together.

    prepare         Volume, label -> PreparedCase     orient, crop, resample, clip, normalise
    restore_labels  class map     -> file's voxels    resample, paste
    restore_logits  logits        -> crop box         resample linearly
    restore_argmax  logit slabs   -> file's voxels    the same with argmax and paste, one slab at a time
    paste           crop box      -> file's voxels    un-crop, un-flip, un-transpose

Clipping comes after resampling, so that it also cuts off the overshoot of cubic splines; the figures it uses are
those of the source's own voxels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.case import Frame, PreparedCase, Volume
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan, Plan
from voxward.core.types import CaseLabels, CaseLogits, LabelArray, Size3
from voxward.data.orient import box_slices, nonzero_box, orient, orientation
from voxward.data.resample import apply_matrices, axis_matrix, resample, resample_labels

# Voxels that a case's percentiles are taken over; more are thinned out evenly.
_SAMPLE = 2_000_000
# Logits (all classes of some rows) that are restored at once: 128 MiB in float32.
_SLAB = 2**25

Numbers = tuple[float, float, float, float]


def prepare(volume: Volume, label: Volume | None, plan: Plan, id: str = "") -> PreparedCase:
    """Orient to RAS, crop to non-zero voxels (if the plan says so), resample to the plan's spacing, clip and normalise.

    An axis of one voxel (a 2D image) stays one voxel. A label holds file values, of the image's shape and orientation.
    Raises ValueError when the volume does not fit the plan (channels), the label does not fit the volume (shape,
    orientation, undeclared values), or an intensity is not finite; the message names the case by `id`.
    """
    _check(volume, label, plan, id)
    axes, flips = orientation(volume.affine)
    source = orient(volume.array, axes, flips)
    start, stop = nonzero_box(source) if plan.crop_nonzero else ((0, 0, 0), _size3(source.shape[1:]))
    box = source[(slice(None), *box_slices(start, stop))]
    spacing = [volume.spacing[axis] for axis in axes]
    shape = _size3(
        max(1, round(count * old / new)) if whole > 1 else 1
        for whole, count, old, new in zip(source.shape[1:], box.shape[1:], spacing, plan.spacing, strict=True)
    )
    low, high, mean, std = zip(*(_figures(*pair) for pair in zip(box, plan.channels, strict=True)), strict=True)
    frame = Frame(volume.shape, _affine_tuple(volume.affine), axes, flips, start, stop, shape, low, high, mean, std)
    image = _normalised(box, frame, plan.spline_order)
    if not all(bool(torch.isfinite(channel).all()) for channel in image):
        raise ValueError(f"case {id!r}: the image holds NaN or infinite voxels")
    return PreparedCase(id, image, _prepared_label(label, frame, plan.labels, id), frame)


def restore_labels(label: CaseLabels | LabelArray, frame: Frame) -> np.ndarray:
    """A prepared class map (d, h, w) in the source file's own shape and voxel order; 0 outside the crop box.

    Linear interpolation of each class, then the largest. Exact when the prepared spacing is the source's.
    """
    index = torch.as_tensor(label)
    if tuple(index.shape) != frame.shape:
        raise ValueError(f"label must have the prepared shape {frame.shape}, got {tuple(index.shape)}")
    return paste(resample_labels(index, frame.box_shape, int(index.max()) + 1).cpu().numpy(), frame)


def restore_logits(logits: CaseLogits, frame: Frame) -> Float[Tensor, "k d2 h2 w2"]:
    """Prepared logits (k, d, h, w), resampled linearly to the crop box: (k, *frame.box_shape), still in RAS order."""
    if tuple(logits.shape[1:]) != frame.shape:
        raise ValueError(f"logits must have the prepared shape {frame.shape}, got {tuple(logits.shape[1:])}")
    return resample(logits, frame.box_shape, (1, 1, 1))


def restore_argmax(slabs: Iterable[Tensor], frame: Frame) -> np.ndarray:
    """The class map (file's shape and order, uint8 or uint16) of logits that arrive in slabs (k, rows, h, w).

    The slabs follow each other along the first axis and together have `frame.shape`. Equals
    `paste(restore_logits(all).argmax(0))`, but holds one slab and the rows being restored. 0 outside the crop box.
    Raises ValueError when the slabs do not make up that shape.
    """
    d, h, w = frame.shape
    matrix = axis_matrix(d, frame.box_shape[0], 1)
    rest = [None if n == m else axis_matrix(n, m, 1) for n, m in zip((h, w), frame.box_shape[1:], strict=True)]
    box: np.ndarray | None = None
    done = 0
    for first, held in _joined(slabs, frame, matrix):
        box = _empty_map(len(held), frame) if box is None else box
        ready = _ready(matrix, first + held.shape[1], d)
        rows = max(1, _SLAB // (len(held) * max(frame.box_shape[1] * frame.box_shape[2], h * w)))
        for begin in range(done, ready, rows):
            end = min(begin + rows, ready)
            low, high = _support(matrix, begin, end)
            part = apply_matrices(
                held[:, low - first : high - first].float(), (matrix[begin:end, low:high], rest[0], rest[1])
            )
            box[begin:end] = part.argmax(0).cpu().numpy()
        done = max(done, ready)
    if box is None or done < len(box):
        raise ValueError(f"the slabs end before the prepared shape {frame.shape} is complete")
    return paste(box, frame)


def paste(box: np.ndarray, frame: Frame) -> np.ndarray:
    """An array of the crop box (RAS order) in the source file's shape and voxel order; 0 outside the box."""
    if box.shape != frame.box_shape:
        raise ValueError(f"box must have the shape of the crop box {frame.box_shape}, got {box.shape}")
    whole = np.zeros(frame.source_shape, box.dtype)
    orient(whole, frame.axes, frame.flips)[box_slices(frame.box_start, frame.box_stop)] = box
    return whole


def _check(volume: Volume, label: Volume | None, plan: Plan, id: str) -> None:
    if volume.array.ndim != 4 or volume.array.size == 0:
        raise ValueError(f"case {id!r}: an image is a non-empty array (c, i, j, k), got shape {volume.array.shape}")
    if len(volume.array) != len(plan.channels):
        names = ", ".join(channel.name for channel in plan.channels)
        raise ValueError(f"case {id!r}: the plan has {len(plan.channels)} channels ({names}), got {len(volume.array)}")
    if label is None:
        return
    if label.array.shape != volume.shape:
        raise ValueError(f"case {id!r}: the label has shape {label.array.shape}, its image {volume.shape}")
    if orientation(label.affine) != orientation(volume.affine):
        raise ValueError(f"case {id!r}: label and image have different orientations (axes order or direction)")


def _figures(channel: np.ndarray, plan: ChannelPlan) -> Numbers:
    """Low, high, mean and standard deviation that normalise a channel (i, j, k); std is never 0."""
    if plan.normalization == "ct":
        return plan.low, plan.high, plan.mean, plan.std if plan.std > 0 else 1.0
    if plan.normalization == "none":
        return float(channel.min()), float(channel.max()), 0.0, 1.0
    values = _nonzero_sample(channel)
    if not len(values):
        return 0.0, 0.0, 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    clipped = np.clip(values, low, high)
    # A constant channel has only rounding in its deviation; dividing by it would blow that up to noise.
    return low, high, float(clipped.mean()), float(clipped.std()) if high > low else 1.0


def _nonzero_sample(channel: np.ndarray) -> np.ndarray:
    step = max(1, -(-int(np.count_nonzero(channel)) // _SAMPLE))
    return np.concatenate([plane[plane != 0][::step] for plane in channel]).astype(np.float64)


def _normalised(box: np.ndarray, frame: Frame, order: Size3) -> Tensor:
    """The channels of `box`, one at a time so that only one is held twice."""
    image = torch.empty((len(box), *frame.shape), dtype=torch.float32)
    for n, channel in enumerate(box):
        image[n].copy_(resample(_tensor(channel), frame.shape, order))
        image[n].clamp_(frame.low[n], frame.high[n]).sub_(frame.mean[n]).div_(frame.std[n])
    return image


def _prepared_label(label: Volume | None, frame: Frame, labels: LabelSet, id: str) -> Tensor | None:
    if label is None:
        return None
    box = orient(label.array, frame.axes, frame.flips)[box_slices(frame.box_start, frame.box_stop)]
    index = np.empty(box.shape, np.uint8 if labels.count <= 256 else np.int32)
    try:
        for place, plane in enumerate(box):
            index[place] = labels.to_index(plane)
    except ValueError as error:
        raise ValueError(f"case {id!r}: {error}") from error
    return resample_labels(torch.from_numpy(index), frame.shape, labels.count)


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor of the same values; number types that torch computes badly with become float32."""
    if array.dtype.newbyteorder("=") not in (np.uint8, np.int8, np.int16, np.int32, np.float32):
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def _joined(slabs: Iterable[Tensor], frame: Frame, matrix: Tensor) -> Iterator[tuple[int, Tensor]]:
    """First row and rows held: each slab together with those rows before it that are still needed."""
    held: Tensor | None = None
    first, seen = 0, 0
    for slab in slabs:
        if slab.ndim != 4 or tuple(slab.shape[2:]) != frame.shape[1:] or seen + slab.shape[1] > frame.shape[0]:
            raise ValueError(f"slab {tuple(slab.shape)} at row {seen} does not fit the prepared shape {frame.shape}")
        held = slab if held is None else torch.cat((held, slab), dim=1)
        seen += slab.shape[1]
        yield first, held
        keep = min(_next_needed(matrix, seen, frame.shape[0]), seen)
        held, first = held[:, keep - first :], keep


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


def _empty_map(classes: int, frame: Frame) -> np.ndarray:
    return np.zeros(frame.box_shape, np.uint8 if classes <= 256 else np.uint16)


def _affine_tuple(affine: np.ndarray) -> tuple[tuple[float, float, float, float], ...]:
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in affine)


def _size3(values: Iterable[int]) -> Size3:
    i, j, k = values
    return i, j, k
