"""Whether two files lie in one place, and how far apart they are if not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxward.core.case import Case, Dataset, Volume
from voxward.core.choices import AFFINE_TOLERANCE
from voxward.core.types import Float3, Size3

# What explains less than this share of a distance is not named.
_MINOR = 0.1


@dataclass(frozen=True)
class Apart:
    """How far two placements of one volume lie apart.

    Attributes:
        mm: The greatest distance between the two places of a corner of the volume, in mm.
        voxels: The same in the smallest voxel edge of both.
        causes: What differs, with the values.
    """

    mm: float
    voxels: float
    causes: tuple[str, ...] = ()

    def __str__(self) -> str:
        distance = f"the far corners are {self.mm:.2g} mm ({self.voxels:.2g} of a voxel) apart"
        return distance + (f", by the {' and the '.join(self.causes)}" if self.causes else "")

    def exceeds(self, tolerance: float) -> bool:
        """Return whether the distance is greater than a tolerance in voxels, or no number."""
        return not self.voxels <= tolerance


def apart(a: np.ndarray, b: np.ndarray, shape: Size3) -> Apart:
    """Compare two placements of one volume.

    Args:
        a: The first affine (4, 4), from voxel indices to millimetres.
        b: The second affine (4, 4).
        shape: The volume's shape in voxels.
    """
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Apart(np.nan, np.nan)
    corners = np.stack(np.meshgrid(*((-0.5, n - 0.5) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    moved = float(np.linalg.norm(corners @ (a - b)[:3, :3].T + (a - b)[:3, 3], axis=1).max())
    edge = float(min(np.linalg.norm(affine[:3, :3], axis=0).min() for affine in (a, b)))
    return Apart(moved, moved / edge if edge else np.nan, tuple(_causes(a, b, shape, _MINOR * moved)))


def within(cases: Sequence[Case], tolerance: float) -> tuple[Case, ...]:
    """Return the same cases, which say how far their files may lie apart.

    Args:
        cases: The cases.
        tolerance: The distance, in the smallest voxel edge.
    """
    return tuple(replace(case, affine_tolerance=tolerance) for case in cases)


def dataset_within(dataset: Dataset, tolerance: float) -> Dataset:
    """Return the same dataset, whose cases say how far their files may lie apart.

    Args:
        dataset: The dataset.
        tolerance: The distance, in the smallest voxel edge.
    """
    return dataset.with_cases(lambda case: replace(case, affine_tolerance=tolerance))


def label_fault(image: Volume, label: Volume, tolerance: float = AFFINE_TOLERANCE) -> str | None:
    """Return why a label does not belong to an image, or None if it does: shape, spacing and place must agree.

    Args:
        image: The image.
        label: The label (i, j, k).
        tolerance: How far their corners may lie apart, in voxels.
    """
    if label.array.shape != image.shape:
        return f"the label has shape {label.array.shape}, its image {image.shape}"
    found = apart(label.affine, image.affine, image.shape)
    return f"the label lies elsewhere than its image: {found}" if found.exceeds(tolerance) else None


def _causes(a: np.ndarray, b: np.ndarray, shape: Size3, least: float) -> list[str]:
    """What moves a corner by at least so many mm."""
    sizes, (one, other) = np.array(shape), (np.linalg.norm(affine[:3, :3], axis=0) for affine in (a, b))
    causes = []
    shift = float(np.linalg.norm((a - b)[:3, 3]))
    if shift > least:
        causes.append(f"origin ({shift:.2g} mm)")
    if (np.abs(one - other) * sizes).max() > least:
        causes.append(f"spacing ({_shown(one)} and {_shown(other)} mm)")
    if min(one.min(), other.min()) > 0:
        turned = a[:3, :3] / one - b[:3, :3] / other
        if (np.linalg.norm(turned, axis=0) * one * sizes).max() > least:
            # Of two unit vectors, by their distance: an arc cosine cannot tell small angles.
            angle = 2 * np.degrees(np.arcsin(np.clip(np.linalg.norm(turned, axis=0) / 2, 0, 1))).max()
            causes.append(f"direction ({angle:.2g} degrees)")
    return causes


def _shown(spacing: np.ndarray) -> Float3:
    x, y, z = (float(f"{length:.6g}") for length in spacing)
    return x, y, z
