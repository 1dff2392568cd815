"""The surface Dice by area, as the Medical Segmentation Decathlon and DeepMind's surface-distance define it.

A surface is made of small polygons, those of marching cubes: each corner of the voxel grid has one whose area follows
from which of the eight voxels around it are inside, and from the voxel size. Where the surface dice of
`metrics.surface` counts voxels, this one adds up areas, so that on thick slices a flat face and a steep wall weigh what
they measure in mm2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy.spatial import KDTree

from voxward.core.errors import UserError
from voxward.core.spacing import ShearedSpacing, in_space


@dataclass(frozen=True, eq=False)
class SurfaceElements:
    """The surface of a mask as points with areas.

    Attributes:
        points: The elements' places in mm, (n, axes).
        areas: Their areas in mm2, or their lengths in mm in a plane (n).
    """

    points: np.ndarray
    areas: np.ndarray


def surface_elements(mask: np.ndarray, spacing: Sequence[float], unknown: np.ndarray | None = None) -> SurfaceElements:
    """Return the surface elements of a mask.

    Args:
        mask: Booleans, 1D to 3D. Beyond the border of the array is outside.
        spacing: Size of a voxel along each axis, in mm.
        unknown: Voxels that are not annotated, of which the mask holds none; what touches them is no surface.
    """
    if mask.ndim == 1:  # a row of voxels is a strip of its own width
        mask, spacing = mask[:, None], (spacing[0], spacing[0])
        unknown = None if unknown is None else unknown[:, None]
    weights, measures = _table(tuple(float(step) for step in spacing))
    if isinstance(spacing, ShearedSpacing):
        measures = _sheared_areas(spacing)
    codes = np.zeros([length + 1 for length in mask.shape], np.uint8)
    for corner, voxels in _corners(mask):
        codes += np.uint8(weights[corner]) * voxels.astype(np.uint8)
    edge = (codes != 0) & (codes != len(measures) - 1)
    if unknown is not None:
        for _, voxels in _corners(unknown):
            edge &= ~voxels
    return SurfaceElements(in_space(np.argwhere(edge), spacing), measures[codes[edge]])


def area_nsd(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Sequence[float],
    tolerance_mm: float,
    unknown: np.ndarray | None = None,
) -> float | None:
    """Return the share of both masks' surface area that lies within a tolerance of the other surface.

    Args:
        truth: The true mask: booleans, 1D to 3D.
        prediction: The predicted mask, of the same shape.
        spacing: Size of a voxel along each axis, in mm.
        tolerance_mm: The tolerance in mm.
        unknown: Voxels that are not annotated, of the same shape; both masks are empty there.

    Returns:
        The share; None where a mask has no surface beside what is not annotated.

    Raises:
        UserError: A mask is empty.
    """
    if not (truth.any() and prediction.any()):
        raise UserError("surface distances need two masks that are not empty")
    true, predicted = (surface_elements(mask, spacing, unknown) for mask in (truth, prediction))
    if not (len(true.areas) and len(predicted.areas)):
        return None
    close = _close(true, predicted, tolerance_mm) + _close(predicted, true, tolerance_mm)
    return float(close / (true.areas.sum() + predicted.areas.sum()))


def _corners(mask: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Each of the voxels around every corner of the grid: its place in the corner's block, and its value."""
    padded = np.pad(mask, 1)
    for corner in product((0, 1), repeat=mask.ndim):
        lengths = zip(corner, mask.shape, strict=True)
        yield corner, padded[tuple(slice(start, start + length + 1) for start, length in lengths)]


def _close(elements: SurfaceElements, other: SurfaceElements, tolerance_mm: float) -> float:
    """The area of the elements that have another surface's element within the tolerance."""
    distances, _ = KDTree(other.points, leafsize=32).query(elements.points)
    return float(elements.areas[np.asarray(distances) <= tolerance_mm].sum())


@lru_cache(maxsize=64)
def _table(spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The bit of each of a corner's voxels, and the area per sum of bits."""
    from monai.metrics.utils import get_code_to_measure_table

    measures, kernel = get_code_to_measure_table(list(spacing))
    return kernel.numpy()[0, 0].astype(int), measures.numpy().astype(np.float64)


def _sheared_areas(spacing: ShearedSpacing) -> np.ndarray:
    """The area per sum of bits on a sheared grid: normals as long as their areas follow the cofactors of the edges."""
    if len(spacing) != 3:
        raise UserError("the surface Dice by area cannot be had in a plane that is sheared itself: take nsd 'voxels'")
    from monai.metrics import utils

    normals = utils._get_neighbour_code_to_normals_table().numpy().astype(np.float64)
    edges = spacing.directions * np.asarray(spacing)
    cofactors = np.linalg.det(edges) * np.linalg.inv(edges).T
    areas: np.ndarray = np.linalg.norm(normals @ cofactors.T, axis=-1).sum(-1)
    return areas
