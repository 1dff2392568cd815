"""Boxes of a volume: around a mask, cut out, compared."""

from __future__ import annotations

import math

import numpy as np

from voxward.core.case import Volume
from voxward.core.model import Box
from voxward.core.types import Size3

Sides = list[list[int]]
"""A box as plain data: [start, stop] per axis."""


def bounding_box(mask: np.ndarray, margin: Size3 = (0, 0, 0)) -> Box | None:
    """The smallest box with every voxel of `mask` (i, j, k) and `margin` voxels on both sides, as far as it goes.

    None when the mask is empty.
    """
    sides = []
    for axis, (length, wider) in enumerate(zip(mask.shape, margin, strict=True)):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(places):
            return None
        sides.append(slice(max(int(places[0]) - wider, 0), min(int(places[-1]) + 1 + wider, length)))
    return tuple(sides)


def crop(volume: Volume, box: Box, mask: np.ndarray | None = None) -> Volume:
    """The part of a volume (c, i, j, k) in `box`, lying in space where it lay; with a `mask` (i, j, k), 0 outside it.

    Without a mask the array is a view.
    """
    array, affine = volume.array[(slice(None), *box)], volume.affine.astype(np.float64)
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return Volume(array if mask is None else np.where(mask[box], array, array.dtype.type(0)), affine)


def sides(box: Box | None) -> Sides | None:
    """Return a box as [start, stop] per axis; None stays None."""
    return None if box is None else [[side.start, side.stop] for side in box]


def overlap(first: Sides | None, second: Sides | None) -> float:
    """Return the share of two boxes' union that both hold; 1 for two None, 0 for one None."""
    if first is None or second is None:
        return float(first is second)
    both = math.prod(max(min(a[1], b[1]) - max(a[0], b[0]), 0) for a, b in zip(first, second, strict=True))
    volumes = [math.prod(stop - start for start, stop in box) for box in (first, second)]
    return float(both / (sum(volumes) - both))
