"""Separable resampling: one small dense matrix per axis, so it is linear, differentiable, and fast on any device.

Output voxel i of n_out samples the input at (i + 0.5) * n_in / n_out - 0.5 (half-pixel centres); outside the volume
the edge voxel goes on. No anti-aliasing. A cubic spline therefore equals
`scipy.ndimage.map_coordinates(order=3, mode="nearest")` at these coordinates, and
`scipy.ndimage.zoom(grid_mode=True, mode="nearest")`.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Integer, Shaped
from scipy import ndimage
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.types import CaseLabels, Size3

Matrices = tuple[Tensor | None, Tensor | None, Tensor | None]

# Voxels of one temporary: 64 MiB in float32.
_SLAB = 2**24
# How far the edge is continued before the spline's coefficients are solved for; scipy uses the same 12.
_MARGIN = 12


# Of a weight; what it would contribute is far below a float64's rounding.
_NEGLIGIBLE = 1e-20


@lru_cache(maxsize=32)
def axis_matrix(n_in: int, n_out: int, order: int) -> Float64[Tensor, "n_out n_in"]:
    """Return the matrix that resamples one axis. It is cached and shared: do not write into it.

    Args:
        n_in: The length before, in voxels.
        n_out: The length after, in voxels.
        order: The spline's order: 0 takes the nearest voxel (the upper one of a tie), 1 interpolates linearly, 2 and 3
            are interpolating B-splines (with prefilter).

    Returns:
        A float64 matrix (n_out, n_in), whose rows each sum to 1.

    Raises:
        UserError: A length is below 1, or the order is none of these.
    """
    if n_in < 1 or n_out < 1:
        raise UserError(f"an axis needs at least one voxel, got {n_in} -> {n_out}")
    if order not in range(4):
        raise UserError(f"order must be 0, 1, 2 or 3, got {order}")
    position = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    if order == 0:
        return torch.from_numpy(np.eye(n_in)[np.clip(np.floor(position + 0.5).astype(int), 0, n_in - 1)])
    extended = np.pad(np.eye(n_in), ((_MARGIN, _MARGIN), (0, 0)), mode="edge")
    if order > 1:
        extended = ndimage.spline_filter1d(extended, order, axis=0, mode="nearest")
    distance = np.abs(position[:, None] + _MARGIN - np.arange(n_in + 2 * _MARGIN))
    matrix = _basis(distance, order) @ extended
    # The prefilter's tails fall below what float32 holds at full precision, and arithmetic on such numbers is slow.
    matrix[np.abs(matrix) < _NEGLIGIBLE] = 0.0
    return torch.from_numpy(matrix)


def resample(x: Shaped[Tensor, "... d h w"], shape: Size3, order: Size3) -> Shaped[Tensor, "... d2 h2 w2"]:
    """Resample the last three axes of a tensor. Linear in the tensor and differentiable.

    Temporaries are two volumes (the one before and the one after an axis) and slabs of 64 MiB.

    Args:
        x: A tensor (..., d, h, w).
        shape: The new shape of the last three axes.
        order: The spline's order for each of these axes, see `axis_matrix`.

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
    matrices = tuple(axis_matrix(n, m, 1) for n, m in zip(label.shape, shape, strict=True))
    winner, best = label.new_zeros(shape), torch.zeros(shape, dtype=torch.float32, device=label.device)
    boxes = ndimage.find_objects(label.cpu().numpy())
    whole = tuple(slice(0, length) for length in label.shape)
    for index, box in enumerate((whole, *boxes)):
        if box is not None:
            _vote(label, index, box, matrices, winner, best)
    return winner


def _vote(
    label: Tensor, index: int, box: tuple[slice, ...], matrices: tuple[Tensor, ...], winner: Tensor, best: Tensor
) -> None:
    """Resample the mask of one class inside its box, slab by slab, and let it win where it exceeds `best`."""
    reach = [_reached(matrix, part) for matrix, part in zip(matrices, box, strict=True)]
    if not all(map(_length, reach)):
        return  # the class lies between the samples of an axis
    area = max((box[1].stop - box[1].start) * (box[2].stop - box[2].start), _length(reach[1]) * _length(reach[2]))
    rows = max(1, _SLAB // area)
    for first in range(reach[0].start, reach[0].stop, rows):
        out = (slice(first, min(first + rows, reach[0].stop)), *reach[1:])
        source = (_needed(matrices[0], out[0], box[0]), *box[1:])
        parts = [matrix[o, s] for matrix, o, s in zip(matrices, out, source, strict=True)]
        share = _separable((label[source] == index)[None], (parts[0], parts[1], parts[2]))[0]
        wins = share > best[out]
        winner[out].masked_fill_(wins, index)
        best[out].copy_(torch.maximum(best[out], share))


def _reached(matrix: Tensor, columns: slice) -> slice:
    """The rows of a linear matrix that have weight on any of `columns`."""
    rows = torch.nonzero(matrix[:, columns].any(dim=1)).flatten().tolist()
    return slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)


def _needed(matrix: Tensor, rows: slice, within: slice) -> slice:
    """The columns that `rows` put weight on, as far as they lie `within`."""
    columns = torch.nonzero(matrix[rows, within].any(dim=0)).flatten().tolist()
    if not columns:
        return slice(within.start, within.start + 1)
    return slice(within.start + columns[0], within.start + columns[-1] + 1)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


class _Separable(torch.autograd.Function):
    """Matrices along axes; the pullback is the same with the matrices transposed, as bounded in memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *matrices: Tensor | None) -> Tensor:
        ctx.matrices = matrices
        d, h, w = matrices
        return _separable(x, (d, h, w))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        transposed = (None if matrix is None else matrix.T for matrix in ctx.matrices)
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
            n_out = len(matrices[axis])  # type: ignore[arg-type]
            total += voxels * n_out
            voxels *= n_out / size[axis]
        return total

    return min(permutations(axis for axis in range(3) if matrices[axis] is not None), key=work)


def _along(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """One matrix along one axis of (n, d, h, w), in slabs across another axis that it does not mix."""
    dtype = x.dtype if x.is_floating_point() else torch.float32
    matrix = matrix.to(x.device, dtype)
    shape = list(x.shape)
    shape[axis + 1] = len(matrix)
    out = x.new_empty(shape, dtype=dtype)
    across = 1 if axis == 0 else 0
    step = max(1, _SLAB * x.shape[across + 1] // max(x[0].numel(), out[0].numel()))
    for volume, target in zip(x, out, strict=True):
        for piece, place in zip(volume.split(step, across), target.split(step, across), strict=True):
            place.copy_(_product(piece.to(dtype), matrix, axis))
    return out


def _product(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    if axis == 0:
        return (matrix @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])
    return matrix @ x if axis == 1 else x @ matrix.T


def _basis(distance: np.ndarray, order: int) -> np.ndarray:
    """The centred B-spline of `order` at a distance from its knot."""
    if order == 1:
        return np.maximum(0.0, 1.0 - distance)
    if order == 2:
        outer = 0.5 * np.maximum(0.0, 1.5 - distance) ** 2
        return np.where(distance < 0.5, 0.75 - distance**2, outer)
    outer = np.maximum(0.0, 2.0 - distance) ** 3 / 6
    return np.where(distance < 1.0, 2 / 3 - distance**2 + distance**3 / 2, outer)


def _matrices(size: Size3, shape: Size3, order: Size3) -> Matrices:
    d, h, w = (None if n == m else axis_matrix(n, m, o) for n, m, o in zip(size, shape, order, strict=True))
    return d, h, w


def _size(x: Tensor) -> Size3:
    d, h, w = x.shape[-3:]
    return d, h, w
