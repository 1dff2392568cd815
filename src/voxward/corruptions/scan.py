"""A scan as corruptions see it: its values, its voxel sizes, what its channels are, and where the truth lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from voxward.core.types import Float3

# A rotation about an axis moves the ends of the longer of the other two axes out of a slab of few slices.
_UPRIGHT = 2.0
WIDE = 1 / 3
"""Axes that are shorter than this share of the longest one, in voxels, are no direction of a phase or a read-out."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan in its own grid, whose axes are taken to be at right angles.

    Attributes:
        image: The intensities (c, i, j, k).
        spacing: The voxel size in mm along (i, j, k).
        channels: The name of each channel, such as `CT` or `T1w`.
        axial: The axis along the body, across which the slices lie.
        label: The truth (i, j, k), or (n, i, j, k) of n maps, which spatial corruptions move; None without one.
    """

    image: np.ndarray
    spacing: Float3
    channels: tuple[str, ...]
    axial: int = 2
    label: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of voxels along (i, j, k)."""
        return cast(tuple[int, int, int], self.image.shape[1:])

    @property
    def extent(self) -> Float3:
        """The length of the scan in mm along (i, j, k)."""
        i, j, k = (n * float(mm) for n, mm in zip(self.shape, self.spacing, strict=True))
        return i, j, k

    def length_scale(self, full_mm: float | None) -> Float3:
        """Return by what lengths along each axis are multiplied: min(1, extent / full_mm).

        Args:
            full_mm: The extent from which on lengths are as the set says; None: they always are.
        """
        i, j, k = (1.0 if full_mm is None else min(1.0, length / full_mm) for length in self.extent)
        return i, j, k

    def turn_scale(self) -> Float3:
        """Return by what the rotation about each axis is multiplied: below 1 where the other two are a thin slab."""
        x, y, z = self.extent
        pairs = (y, z), (x, z), (x, y)
        i, j, k = (min(1.0, _UPRIGHT * min(pair) / max(pair)) for pair in pairs)
        return i, j, k

    @property
    def wide_axes(self) -> tuple[int, ...]:
        """The axes with so many voxels that a scanner might have encoded them: not those across a slab."""
        longest = max(self.shape)
        return tuple(axis for axis, n in enumerate(self.shape) if n >= WIDE * longest)

    @property
    def foreground(self) -> np.ndarray:
        """The voxels (i, j, k) of any class; none without a label."""
        if self.label is None:
            return np.zeros(self.shape, bool)
        return np.asarray((self.label.reshape(-1, *self.shape) > 0).any(axis=0))

    @property
    def in_plane(self) -> tuple[int, int]:
        """The two axes of a slice."""
        first, second = (axis for axis in range(3) if axis != self.axial)
        return first, second

    def channel(self, number: int) -> Scan:
        """Return the same scan with one of its channels only."""
        return replace(self, image=self.image[number : number + 1], channels=self.channels[number : number + 1])


def axial_axis(affine: np.ndarray) -> int:
    """Return the axis of a grid that runs along the body most.

    Args:
        affine: (4, 4), from voxel indices to millimetres in RAS+.
    """
    columns = affine[:3, :3] / np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-12)
    return int(np.abs(columns[2]).argmax())
