"""How far two segmentations' surfaces lie apart, in mm: 95th percentile Hausdorff distance and surface Dice (NSD).

A mask's surface is its voxels with a face neighbour outside; beyond the volume's border is outside. Distances are
Euclidean, between voxel centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from voxward.core.errors import UserError
from voxward.core.spacing import in_space

NSD_TOLERANCE_MM = 2.0
"""Default tolerance of the surface Dice: a voxel or two of MR, about a slice of CT, as exact as annotations are."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances between the surfaces of two masks.

    Attributes:
        to_truth: For each surface voxel of the prediction, the distance in mm to the nearest one of the truth.
        to_prediction: For each surface voxel of the truth, the distance in mm to the nearest one of the prediction.
            Both are empty where no surface of one of the masks lies in the annotated part of a volume.
    """

    to_truth: np.ndarray
    to_prediction: np.ndarray

    @property
    def hd95_mm(self) -> float:
        """The greater of the two directions' 95th percentiles in mm, interpolated linearly between the ranks."""
        return float(max(np.percentile(self.to_truth, 95), np.percentile(self.to_prediction, 95)))

    @property
    def pooled_hd95_mm(self) -> float:
        """The 95th percentile in mm of the distances of both directions together, as medpy's hd95 has it."""
        return float(np.percentile(np.concatenate([self.to_truth, self.to_prediction]), 95))

    def nsd(self, tolerance_mm: float) -> float:
        """The surface Dice: the share of both masks' surface voxels within `tolerance_mm` of the other surface."""
        close = np.count_nonzero(self.to_truth <= tolerance_mm) + np.count_nonzero(self.to_prediction <= tolerance_mm)
        return float(close / (self.to_truth.size + self.to_prediction.size))


def surface(mask: np.ndarray, unknown: np.ndarray | None = None) -> np.ndarray:
    """The surface of a mask: its voxels with a face neighbour outside.

    Args:
        mask: Booleans, 2D or 3D. Beyond the border of the array is outside.
        unknown: Voxels that are not annotated, of which the mask holds none. Where it ends at them, nobody knows
            whether it ends: that is no surface.

    Returns:
        Booleans of the same shape.
    """
    neighbours = ndimage.generate_binary_structure(mask.ndim, 1)
    whole = mask if unknown is None else mask | unknown
    edge: np.ndarray = mask & ~ndimage.binary_erosion(whole, neighbours, border_value=0)
    return edge


def surface_distances(
    truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], unknown: np.ndarray | None = None
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks.

    A k-d tree over the surface voxels gives the exact distances of a distance transform, 20 times faster on organs of
    200 voxels, and its cost does not grow with the space between the masks.

    Args:
        truth: The true mask: booleans, 2D or 3D.
        prediction: The predicted mask, of the same shape.
        spacing: Size of a voxel along each axis, in mm.
        unknown: Voxels that are not annotated, of the same shape; both masks are empty there. See `surface`.

    Returns:
        The distances of both directions.

    Raises:
        UserError: A mask is empty.
    """
    if not (truth.any() and prediction.any()):
        raise UserError("surface distances need two masks that are not empty")
    true, predicted = (in_space(np.argwhere(surface(mask, unknown)), spacing) for mask in (truth, prediction))
    if not (len(true) and len(predicted)):
        return SurfaceDistances(np.empty(0), np.empty(0))
    to_truth, _ = KDTree(true, leafsize=32).query(predicted)
    to_prediction, _ = KDTree(predicted, leafsize=32).query(true)
    return SurfaceDistances(np.asarray(to_truth), np.asarray(to_prediction))
