"""The voxel size of a grid, also of a sheared one, whose axes are not at right angles (a tilted gantry of a CT)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import cast

import numpy as np

from voxward.core.types import Float3

# How far axes may be from right angles before it counts: headers round by less.
SHEARED_DEGREES = 0.01


class ShearedSpacing(tuple[float, ...]):
    """The voxel size in mm along the axes of a sheared grid, which knows where the axes point.

    It is legal wherever a plain spacing is: what needs lengths alone sees numbers as of any other grid.

    Attributes:
        directions: For each axis a column with its unit vector in space.
    """

    directions: np.ndarray


def spacing_of(affine: np.ndarray) -> Float3:
    """Return the voxel size in mm along (i, j, k), which is the length of each column of an affine.

    Args:
        affine: (4, 4), from voxel indices to millimetres.

    Returns:
        Three numbers; a `ShearedSpacing` where the axes are more than SHEARED_DEGREES from right angles.
    """
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    x, y, z = (float(length) for length in lengths)
    if shear_degrees(affine) <= SHEARED_DEGREES:
        return x, y, z
    return cast(Float3, _sheared((x, y, z), affine[:3, :3] / lengths))


def shear_degrees(affine: np.ndarray) -> float:
    """Return how far the axes of a grid are from right angles at most, in degrees; 0 for an affine that is none.

    Args:
        affine: (4, 4), from voxel indices to millimetres.
    """
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return _degrees(affine[:3, :3] / lengths) if np.isfinite(lengths).all() and lengths.min() > 0 else 0.0


def without_axes(spacing: Sequence[float], dropped: Collection[int]) -> Sequence[float]:
    """Return the spacing of a plane or a row of a grid.

    Args:
        spacing: The voxel size in mm along each axis.
        dropped: The axes that are left out.
    """
    kept = [axis for axis in range(len(spacing)) if axis not in dropped]
    lengths = tuple(spacing[axis] for axis in kept)
    if isinstance(spacing, ShearedSpacing) and _degrees(spacing.directions[:, kept]) > SHEARED_DEGREES:
        return _sheared(lengths, spacing.directions[:, kept])
    return lengths


def in_space(index: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return where voxels lie in mm, so that distances between them are true; the origin is voxel 0.

    Args:
        index: Voxel indices (n, axes).
        spacing: The voxel size in mm along each axis.
    """
    points: np.ndarray = index * np.asarray(spacing, dtype=np.float64)
    return points @ spacing.directions.T if isinstance(spacing, ShearedSpacing) else points


def voxel_mm3(spacing: Sequence[float]) -> float:
    """Return the volume of a voxel in mm3.

    Args:
        spacing: The voxel size in mm along the three axes.
    """
    share = abs(float(np.linalg.det(spacing.directions))) if isinstance(spacing, ShearedSpacing) else 1.0
    return share * math.prod(spacing)


def _sheared(lengths: Sequence[float], directions: np.ndarray) -> ShearedSpacing:
    spacing = ShearedSpacing(lengths)
    spacing.directions = directions
    return spacing


def _degrees(units: np.ndarray) -> float:
    cosines = np.abs((units.T @ units)[np.triu_indices(units.shape[1], 1)])
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))).max(initial=0.0))
