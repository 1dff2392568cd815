"""One class of one case as every metric sees it: two masks, and what is derived from them once for all metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from voxward.core.errors import UserError
from voxward.core.spacing import without_axes
from voxward.core.types import Float3
from voxward.metrics.lesions import LesionRule, LesionScores, score_lesions
from voxward.metrics.nsd import Cropped
from voxward.metrics.overlap import Counts, class_counts, confusion
from voxward.metrics.policies import EmptyPolicy, Scoring
from voxward.metrics.surface import SurfaceDistances, surface_distances

Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Maps:
    """The true and the predicted class map of one case.

    Attributes:
        truth: Class indices of shape (d, h, w), integers from 0 to `count` - 1.
        prediction: Class indices of the same shape.
        spacing: Size of a voxel along each axis, in mm.
        count: Number of classes, the background included.
        unknown: Which voxels nobody has annotated: booleans of the same shape; None where all are annotated. Both maps
            hold background there. They count as voxels of no class, not even of the background.

    Raises:
        UserError: The maps do not have three axes, or the spacing is not positive.
    """

    truth: np.ndarray
    prediction: np.ndarray
    spacing: Float3
    count: int
    unknown: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.truth.ndim != 3:
            raise UserError(f"truth must have three axes (2D: the third of length 1), got shape {self.truth.shape}")
        if not all(math.isfinite(step) and step > 0 for step in self.spacing):
            raise UserError(f"spacing must be positive mm, got {self.spacing}")

    @cached_property
    def confusion(self) -> np.ndarray:
        """Voxels per (true class, predicted class), see `metrics.overlap.confusion`, which also says what it raises."""
        matrix = confusion(self.truth, self.prediction, self.count)
        if self.unknown is not None:
            matrix[0, 0] -= np.count_nonzero(self.unknown)
        return matrix

    @property
    def diagonal_mm(self) -> float:
        """Length of the volume's diagonal in mm."""
        return math.hypot(*(n * step for n, step in zip(self.truth.shape, self.spacing, strict=True)))

    def distances(self, klass: int) -> SurfaceDistances:
        """The distances between the surfaces of a class in the two maps.

        Args:
            klass: Index of a foreground class that is in both maps.
        """
        return surface_distances(*self.cropped(klass))

    def cropped(self, klass: int) -> Cropped:
        """Both masks of a class, cropped to what they cover together, the voxel size in mm, and what is not annotated.

        Args:
            klass: Index of a foreground class that is in either map.
        """
        # The box may be tight: a voxel at its border that has no neighbour in it has none in the volume either.
        box, (truth, prediction, steps) = self._boxes[klass - 1], self._without_thin_axes
        unknown = None
        if self.unknown is not None:  # whether a neighbour is annotated, however, is to be seen
            box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
            unknown = self.unknown.reshape(truth.shape)[box]
        return truth[box] == klass, prediction[box] == klass, steps, unknown

    @cached_property
    def _without_thin_axes(self) -> tuple[np.ndarray, np.ndarray, Sequence[float]]:
        """Maps and spacing without axes of length 1, along which a mask has no surface: a 2D image has an outline."""
        thin = tuple(axis for axis, length in enumerate(self.truth.shape) if length == 1)[:2]
        return self.truth.squeeze(thin), self.prediction.squeeze(thin), without_axes(self.spacing, thin)

    @cached_property
    def _boxes(self) -> list[Box]:
        """Per foreground class the bounding box of its voxels in either map, () where there are none."""
        maps = self._without_thin_axes[:2]
        found = [ndimage.find_objects(array, max_label=self.count - 1) for array in maps]
        return [_union(true, predicted) for true, predicted in zip(*found, strict=True)]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The true and the predicted mask of one class of one case: what a metric is a function of.

    What costs time is computed when the first metric asks for it, and only once.

    Attributes:
        maps: Both class maps of the case.
        klass: Index of the foreground class.
        scoring: Policy for empty masks, and the metrics' options.
    """

    maps: Maps
    klass: int
    scoring: Scoring

    @property
    def truth(self) -> np.ndarray:
        """The true mask: boolean (d, h, w)."""
        mask: np.ndarray = self.maps.truth == self.klass
        return mask

    @property
    def prediction(self) -> np.ndarray:
        """The predicted mask: boolean (d, h, w)."""
        mask: np.ndarray = self.maps.prediction == self.klass
        return mask

    @property
    def spacing(self) -> Float3:
        """Size of a voxel along each axis, in mm."""
        return self.maps.spacing

    @property
    def policy(self) -> EmptyPolicy:
        """What empty masks count."""
        return self.scoring.empty

    @cached_property
    def counts(self) -> Counts:
        """Voxels that are true, predicted, both or neither."""
        return class_counts(self.maps.confusion, self.klass)

    @property
    def in_neither(self) -> bool:
        """Whether both masks are empty."""
        return not (self.counts.truth or self.counts.predicted)

    @property
    def in_both(self) -> bool:
        """Whether neither mask is empty."""
        return bool(self.counts.truth and self.counts.predicted)

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Distances in mm between the two surfaces, see `surface_distances`. Raises UserError where a mask is empty."""
        return self.maps.distances(self.klass)

    @property
    def cropped(self) -> Cropped:
        """Both masks, cropped to what they cover together, the voxel size in mm, and what is not annotated."""
        return self.maps.cropped(self.klass)

    def by_lesion(self, rule: LesionRule) -> LesionScores:
        """The scores lesion by lesion, computed once per rule."""
        if rule not in self._by_rule:
            self._by_rule[rule] = score_lesions(self.truth, self.prediction, self.spacing, rule)
        return self._by_rule[rule]

    @cached_property
    def _by_rule(self) -> dict[LesionRule, LesionScores]:
        return {}


def _union(first: Box | None, second: Box | None) -> Box:
    if first is None or second is None:
        return first or second or ()
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
