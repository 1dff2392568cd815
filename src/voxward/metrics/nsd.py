"""Which surface Dice (NSD) is meant: two definitions have the same name, and give other figures on thick slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from voxward.core.registry import Registry
from voxward.metrics.surface import SurfaceDistances
from voxward.metrics.surface_area import area_nsd

Cropped = tuple[np.ndarray, np.ndarray, Sequence[float], np.ndarray | None]
"""Two masks, the size of a voxel in mm, and which voxels nobody has annotated (None: all are)."""


@runtime_checkable
class Surfaces(Protocol):
    """Two masks of one class, neither of them empty."""

    @property
    def distances(self) -> SurfaceDistances:
        """Return the distances in mm between the surface voxels."""
        ...

    @property
    def cropped(self) -> Cropped:
        """Return both masks, cropped to what they cover together, the voxel size in mm, and what is not annotated."""
        ...


@dataclass(frozen=True)
class Definition:
    """One definition of the surface Dice.

    Attributes:
        label: How tables call it.
        legend: What it is, for the line above a table.
        measure: The surface Dice of two masks with a tolerance in mm; None where a mask has no surface.
    """

    label: str
    legend: str
    measure: Callable[[Surfaces, float], float | None]


def _by_voxels(masks: Surfaces, tolerance_mm: float) -> float | None:
    return masks.distances.nsd(tolerance_mm) if masks.distances.to_truth.size else None


def _by_area(masks: Surfaces, tolerance_mm: float) -> float | None:
    truth, prediction, spacing, unknown = masks.cropped
    return area_nsd(truth, prediction, spacing, tolerance_mm, unknown)


NSD_DEFINITIONS: Registry[Definition] = Registry(
    "definition of the NSD",
    {
        "voxels": Definition("NSD", "NSD: share of the surface voxels", _by_voxels),
        "area": Definition("NSD area", "NSD area: share of the surface area", _by_area),
    },
)
"""`voxels` as MONAI's and nnU-Net's; `area` as the Medical Segmentation Decathlon's and DeepMind's."""
