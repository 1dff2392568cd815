"""Separable resampling: one banded matrix per axis, so it is linear, differentiable, and fast on any device.

Output voxel i of n_out samples the input at (i + 0.5) * n_in / n_out - 0.5 (half-pixel centres); outside the volume
the edge voxel goes on. No anti-aliasing. A cubic spline therefore equals
`scipy.ndimage.map_coordinates(order=3, mode="nearest")` at these coordinates, and
`scipy.ndimage.zoom(grid_mode=True, mode="nearest")`.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer, Shaped
from scipy import ndimage
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.types import CaseLabels, Size3
from voxward.data.bands import Band, axis_band

Matrices = tuple[Band | None, Band | None, Band | None]

# Voxels of one temporary: 64 MiB in float32.
_SLAB = 2**24


def resample(x: Shaped[Tensor, "... d h w"], shape: Size3, order: Size3) -> Shaped[Tensor, "... d2 h2 w2"]:
    """Resample the last three axes of a tensor. Linear in the tensor and differentiable.

    Temporaries are two volumes (the one before and the one after an axis) and slabs of 64 MiB.

    Args:
        x: A tensor (..., d, h, w).
        shape: The new shape of the last three axes.
        order: The spline's order for each of these axes, see `bands.axis_band`.

    Returns:
        The resampled tensor (..., d2, h2, w2), in the type of `x` if that is floating, else float32. It may be `x`
        itself if nothing changes.
    """
    return apply_matrices(x, _matrices(_size(x), shape, order))


def apply_matrices(x: Shaped[Tensor, "... d h w"], matrices: Matrices) -> Shaped[Tensor, "... d2 h2 w2"]:
    """Multiply each of the last three axes of a tensor by a matrix.

    Args:
        x: A tensor (..., d, h, w).
        matrices: A matrix (n_out, n_in) for each axis; None leaves an axis as it is.

    Returns:
        The product (..., d2, h2, w2), in the type of `x` if that is floating, else float32.
    """
    if all(matrix is None for matrix in matrices):
        return x if x.is_floating_point() else x.to(torch.float32)
    flat = x.reshape(-1, *x.shape[-3:])
    out: Tensor = _Separable.apply(flat, *matrices)  # type: ignore[no-untyped-call]
    return out.reshape(*x.shape[:-3], *out.shape[-3:])


def resample_labels(label: CaseLabels, shape: Size3, classes: int) -> Integer[Tensor, "d2 h2 w2"]:
    """Resample class indices: each class's mask linearly, then the class with the largest share of a voxel.

    Of equal shares the lowest class wins. Each class is worked on in its own bounding box and only the running maximum
    is kept, so that memory does not grow with the number of classes.

    Args:
        label: Class indices (d, h, w).
        shape: The new shape.
        classes: The number of classes, background included.

    Returns:
        Class indices (d2, h2, w2), in the type of `label`.

    Raises:
        UserError: A class index is outside 0..classes-1.
    """
    if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise UserError(f"label must lie in 0..{classes - 1}, got {int(label.min())}..{int(label.max())}")
    if tuple(label.shape) == shape:
        return label.clone()
    matrices = _matrices(_size(label), shape, (1, 1, 1))
    winner, best = label.new_zeros(shape), torch.zeros(shape, dtype=torch.float32, device=label.device)
    boxes = ndimage.find_objects(label.cpu().numpy())
    whole = tuple(slice(0, length) for length in label.shape)
    for index, box in enumerate((whole, *boxes)):
        if box is not None:
            _vote(label, index, box, matrices, winner, best)
    return winner


def _vote(label: Tensor, index: int, box: tuple[slice, ...], matrices: Matrices, winner: Tensor, best: Tensor) -> None:
    """Resample the mask of one class inside its box, slab by slab, and let it win where it exceeds `best`."""
    reach = [_reached(matrix, part) for matrix, part in zip(matrices, box, strict=True)]
    if not all(map(_length, reach)):
        return  # the class lies between the samples of an axis
    area = max((box[1].stop - box[1].start) * (box[2].stop - box[2].start), _length(reach[1]) * _length(reach[2]))
    rows = max(1, _SLAB // area)
    for first in range(reach[0].start, reach[0].stop, rows):
        out = (slice(first, min(first + rows, reach[0].stop)), *reach[1:])
        source = (_needed(matrices[0], out[0], box[0]), *box[1:])
        d, h, w = (m if m is None else m.part(o, s) for m, o, s in zip(matrices, out, source, strict=True))
        share = _separable((label[source] == index)[None], (d, h, w))[0]
        wins = share > best[out]
        winner[out].masked_fill_(wins, index)
        best[out].copy_(torch.maximum(best[out], share))


def _reached(matrix: Band | None, columns: slice) -> slice:
    """The rows of a linear matrix that have weight on any of `columns`."""
    if matrix is None:
        return columns
    first, last = matrix.reach
    rows = np.flatnonzero((last >= columns.start) & (first < columns.stop))
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)


def _needed(matrix: Band | None, rows: slice, within: slice) -> slice:
    """The columns that `rows` put weight on, as far as they lie `within`."""
    if matrix is None:
        return rows
    first, last = matrix.reach
    start, stop = max(int(first[rows.start]), within.start), min(int(last[rows.stop - 1]) + 1, within.stop)
    return slice(start, stop) if start < stop else slice(within.start, within.start + 1)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


class _Separable(torch.autograd.Function):
    """Matrices along axes; the pullback is the same with the matrices transposed, as bounded in memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *matrices: Band | None) -> Tensor:
        ctx.matrices = matrices
        d, h, w = matrices
        return _separable(x, (d, h, w))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        transposed = (None if matrix is None else matrix.transposed for matrix in ctx.matrices)
        pulled: Tensor = _Separable.apply(gradients[0], *transposed)  # type: ignore[no-untyped-call]
        return pulled, None, None, None


def _separable(x: Tensor, matrices: Matrices) -> Tensor:
    """The matrices of (n, d, h, w), one axis after the other in the cheapest order."""
    for axis in _cheapest_order(_size(x), matrices):
        matrix = matrices[axis]
        x = x if matrix is None else _along(x, matrix, axis)
    return x


def _cheapest_order(size: Size3, matrices: Matrices) -> tuple[int, ...]:
    def work(axes: tuple[int, ...]) -> float:
        total, voxels = 0.0, float(np.prod(size))
        for axis in axes:
            band = matrices[axis]
            assert band is not None
            total += voxels * band.weights / size[axis]
            voxels *= band.n_out / size[axis]
        return total

    return min(permutations(axis for axis in range(3) if matrices[axis] is not None), key=work)


def _along(x: Tensor, band: Band, axis: int) -> Tensor:
    """One matrix along one axis of (n, d, h, w), in slabs across another axis that it does not mix."""
    dtype = x.dtype if x.is_floating_point() else torch.float32
    blocks, shape = band.pieces(x.device, dtype), list(x.shape)
    shape[axis + 1] = band.n_out
    out = x.new_empty(shape, dtype=dtype)
    across = 1 if axis == 0 else 0
    step = max(1, _SLAB * x.shape[across + 1] // max(x[0].numel(), out[0].numel()))
    for volume, target in zip(x, out, strict=True):
        for piece, place in zip(volume.split(step, across), target.split(step, across), strict=True):
            numbers = piece.to(dtype)
            for block in blocks:
                rows, columns = block.rows, block.columns
                drawn = numbers.narrow(axis, columns.start, columns.stop - columns.start)
                place.narrow(axis, rows.start, rows.stop - rows.start).copy_(_product(drawn, block.weights, axis))
    return out


def _product(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    if axis == 0:
        return (matrix @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])
    return matrix @ x if axis == 1 else x @ matrix.T


def _matrices(size: Size3, shape: Size3, order: Size3) -> Matrices:
    d, h, w = (None if n == m else axis_band(n, m, o) for n, m, o in zip(size, shape, order, strict=True))
    return d, h, w


def _size(x: Tensor) -> Size3:
    d, h, w = x.shape[-3:]
    return d, h, w
