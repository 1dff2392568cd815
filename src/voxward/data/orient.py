"""Voxel order and the box of content: the exact, integer part of preparation."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel
import numpy as np

from voxward.core.errors import UserError
from voxward.core.types import Size3

Flips = tuple[bool, bool, bool]


def orientation(affine: np.ndarray) -> tuple[Size3, Flips]:
    """The transpose and the flips that bring a file's voxel order closest to RAS+ (oblique affines included).

    axes[n] is the file axis that becomes axis n; flips[n] says whether axis n then runs backwards.
    Raises ValueError when the affine (4, 4) is singular or not finite.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise UserError(f"affine must be a finite, invertible (4, 4) matrix, got {affine.tolist()}")
    to_ras = nibabel.io_orientation(affine)
    i, j, k = (int(axis) for axis in np.argsort(to_ras[:, 0]))
    x, y, z = (bool(to_ras[axis, 1] < 0) for axis in (i, j, k))
    return (i, j, k), (x, y, z)


def orient(array: np.ndarray, axes: Size3, flips: Flips) -> np.ndarray:
    """A view of `array` (..., i, j, k) in RAS order; writing into it writes into `array`, which is the way back."""
    lead = array.ndim - 3
    turned = array.transpose(*range(lead), *(lead + axis for axis in axes))
    i, j, k = (slice(None, None, -1 if flip else 1) for flip in flips)
    return turned[..., i, j, k]


def nonzero_box(array: np.ndarray) -> tuple[Size3, Size3]:
    """Start and stop of the smallest box with every voxel of `array` (c, i, j, k) that is non-zero in any channel.

    The whole volume when every voxel is zero.
    """
    start, stop = [], []
    occupied = [np.zeros(length, bool) for length in array.shape[1:]]
    for channel in array:
        for place, plane in enumerate(channel):
            mask = plane != 0
            rows = mask.any(axis=1)
            occupied[0][place] |= rows.any()
            occupied[1] |= rows
            occupied[2] |= mask.any(axis=0)
    for profile in occupied:
        inside = np.flatnonzero(profile)
        start.append(int(inside[0]) if len(inside) else 0)
        stop.append(int(inside[-1]) + 1 if len(inside) else len(profile))
    return _size3(start), _size3(stop)


def box_slices(start: Size3, stop: Size3) -> tuple[slice, slice, slice]:
    """The box as an index into the last three axes: use as `array[(..., *box_slices(start, stop))]`."""
    i, j, k = (slice(a, b) for a, b in zip(start, stop, strict=True))
    return i, j, k


def _size3(values: Sequence[int]) -> Size3:
    i, j, k = values
    return i, j, k
