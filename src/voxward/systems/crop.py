"""Boxes of a volume: found around a mask, cut out, compared."""

from __future__ import annotations

import math

import numpy as np

from voxward.core.case import Volume
from voxward.core.model import Box
from voxward.core.types import Size3

Sides = list[list[int]]
"""A box as plain data: [start, stop] per axis."""


def bounding_box(mask: np.ndarray, margin: Size3 = (0, 0, 0)) -> Box | None:
    """Return the smallest box that holds every voxel of a mask, widened by a margin.

    Args:
        mask: The mask (i, j, k).
        margin: Voxels that are added on both sides of each axis, as far as the volume goes.

    Returns:
        One slice per axis; None for an empty mask.
    """
    sides = []
    for axis, (length, wider) in enumerate(zip(mask.shape, margin, strict=True)):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(places):
            return None
        sides.append(slice(max(int(places[0]) - wider, 0), min(int(places[-1]) + 1 + wider, length)))
    return tuple(sides)


def crop(volume: Volume, box: Box, mask: np.ndarray | None = None) -> Volume:
    """Cut a box out of a volume; the part lies in space where it lay before.

    Args:
        volume: The volume (c, i, j, k).
        box: One slice per spatial axis.
        mask: A mask (i, j, k) of the whole volume, outside which intensities become 0; None keeps all intensities.

    Returns:
        The part with its own affine. Without a mask its array is a view.
    """
    array, affine = volume.array[(slice(None), *box)], volume.affine.astype(np.float64)
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return Volume(array if mask is None else np.where(mask[box], array, array.dtype.type(0)), affine)


def sides(box: Box | None) -> Sides | None:
    """Return a box as plain data.

    Args:
        box: One slice per axis, or None for no box.

    Returns:
        [start, stop] per axis; None for None.
    """
    return None if box is None else [[side.start, side.stop] for side in box]


def overlap(first: Sides | None, second: Sides | None) -> float:
    """Return the overlap of two boxes: the share of their union that lies in both.

    Args:
        first: A box as `sides` returns it.
        second: Another box.

    Returns:
        A share in [0, 1]; 1 where both boxes are None, 0 where one is.
    """
    if first is None or second is None:
        return float(first is second)
    both = math.prod(max(min(a[1], b[1]) - max(a[0], b[0]), 0) for a, b in zip(first, second, strict=True))
    volumes = [math.prod(stop - start for start, stop in box) for box in (first, second)]
    return float(both / (sum(volumes) - both))
