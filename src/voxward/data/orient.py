"""The voxel order of a file, and the box of its non-zero voxels: the steps of preparation that round nothing."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel
import numpy as np

from voxward.core.errors import UserError
from voxward.core.types import Size3

Flips = tuple[bool, bool, bool]


def orientation(affine: np.ndarray) -> tuple[Size3, Flips]:
    """Return the transpose and the flips that bring a file's voxel order closest to RAS+; oblique affines are allowed.

    Args:
        affine: (4, 4), from voxel indices to millimetres, RAS+.

    Returns:
        For each axis of the result the file axis that it is, and whether it then runs backwards.

    Raises:
        UserError: The affine is singular or not finite.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise UserError(f"affine must be a finite, invertible (4, 4) matrix, got {affine.tolist()}")
    to_ras = nibabel.io_orientation(affine)
    i, j, k = (int(axis) for axis in np.argsort(to_ras[:, 0]))
    x, y, z = (bool(to_ras[axis, 1] < 0) for axis in (i, j, k))
    return (i, j, k), (x, y, z)


def orient(array: np.ndarray, axes: Size3, flips: Flips) -> np.ndarray:
    """Return a view of an array in RAS order. Writing into the view writes into the array, which is the way back.

    Args:
        array: An array (..., i, j, k) in the file's voxel order.
        axes: The file axis of each axis of the result, from `orientation`.
        flips: Whether each axis of the result is flipped, from `orientation`.
    """
    lead = array.ndim - 3
    turned = array.transpose(*range(lead), *(lead + axis for axis in axes))
    i, j, k = (slice(None, None, -1 if flip else 1) for flip in flips)
    return turned[..., i, j, k]


def nonzero_box(array: np.ndarray) -> tuple[Size3, Size3]:
    """Return the smallest box that holds every voxel that is not 0 in any channel.

    Args:
        array: An image (c, i, j, k).

    Returns:
        The first voxel of the box, and the voxel after its last one. It is the whole volume if every voxel is 0.
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
    """Return a box as an index into the last three axes, to be used as `array[(..., *box_slices(start, stop))]`.

    Args:
        start: The first voxel of the box.
        stop: The voxel after the last one of the box.
    """
    i, j, k = (slice(a, b) for a, b in zip(start, stop, strict=True))
    return i, j, k


def _size3(values: Sequence[int]) -> Size3:
    i, j, k = values
    return i, j, k
