"""One case's scores, class by class, and what an empty mask counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.registry import Registry
from voxward.core.types import Float3
from voxward.metrics.lesions import LesionRule, score_lesions
from voxward.metrics.overlap import Counts, class_counts, confusion, dice, iou, sensitivity, specificity
from voxward.metrics.surface import NSD_TOLERANCE_MM, SurfaceDistances, surface_distances

METRICS = ("dice", "iou", "sensitivity", "specificity", "hd95_mm", "nsd")
BRATS_PENALTY_MM = 373.13

Box = tuple[slice, ...]


@dataclass(frozen=True)
class EmptyPolicy:
    """What a class counts that is missing from the truth, the prediction, or both; None leaves it out of every mean.

    both_score: Dice, IoU and NSD of a class that is in neither. both_hd95_mm: its HD95. one_hd95_mm: HD95 of a class
    that is in only one of them, from the volume's diagonal in mm; its Dice, IoU and NSD are 0 under every policy.
    Sensitivity is None wherever the truth is empty. Specificity is None where both are, unless both_score is given.

    pooled: HD95 is the 95th percentile of both directions' distances together, not the greater of their own. lesions:
    Dice and HD95 are lesion-wise, see metrics.lesions; both_score and the distances of empty masks are then its own.
    """

    name: str
    both_score: float | None
    both_hd95_mm: float | None
    one_hd95_mm: Callable[[float], float | None]
    pooled: bool = False
    lesions: LesionRule | None = None


POLICIES: Registry[EmptyPolicy] = Registry(
    "policy for empty masks",
    {
        "ignore": EmptyPolicy("ignore", None, None, lambda diagonal: None),
        "one": EmptyPolicy("one", 1.0, 0.0, lambda diagonal: diagonal),
        # The challenge's rule: the diagonal of its 240 x 240 x 155 mm volumes, whatever the volume at hand.
        "brats": EmptyPolicy("brats", 1.0, 0.0, lambda diagonal: BRATS_PENALTY_MM),
        "brats-pooled": EmptyPolicy("brats-pooled", 1.0, 0.0, lambda diagonal: BRATS_PENALTY_MM, pooled=True),
        # From 2023 on: every lesion counts alike, false ones included.
        "brats-2023": EmptyPolicy(
            "brats-2023", 1.0, 0.0, lambda diagonal: LesionRule().penalty_mm, False, LesionRule()
        ),
    },
)


@dataclass(frozen=True)
class ClassMetrics:
    """One class in one case. Ratios in [0, 1], `hd95_mm` in mm; None where the policy leaves it undefined."""

    dice: float | None
    iou: float | None
    sensitivity: float | None
    specificity: float | None
    hd95_mm: float | None
    nsd: float | None
    truth_voxels: int
    predicted_voxels: int


@dataclass(frozen=True)
class CaseMetrics:
    """A case's foreground classes, or regions, by name."""

    id: str
    classes: Mapping[str, ClassMetrics]

    def mean(self, metric: str) -> float | None:
        """The mean of one of METRICS over the classes where it is defined; None where it nowhere is."""
        values = [value for entry in self.classes.values() if (value := getattr(entry, metric)) is not None]
        return sum(values) / len(values) if values else None


def score_case(
    id: str,
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Float3,
    labels: LabelSet,
    policy: EmptyPolicy,
    nsd_tolerance_mm: float = NSD_TOLERANCE_MM,
) -> CaseMetrics:
    """Score a prediction: integer class maps (d, h, w) of one shape, spacing in mm, class indices of `labels`.

    Where `labels` has regions, these are scored instead of the classes.

    Raises ValueError when the maps are not 3D or differ in shape, hold an unknown class, or a spacing or tolerance is
    out of range.
    """
    if labels.regions:
        true, predicted = labels.nested.to_masks(truth), labels.nested.to_masks(prediction)
        return score_masks(id, true, predicted, spacing, labels.scored, policy, nsd_tolerance_mm)
    _check(truth, spacing, nsd_tolerance_mm)
    matrix = confusion(truth, prediction, labels.count)
    diagonal = math.hypot(*(n * step for n, step in zip(truth.shape, spacing, strict=True)))
    pair = _Pair.without_thin_axes(truth, prediction, spacing)
    boxes = pair.boxes(labels.count)
    classes = {}
    for klass, name in enumerate(labels.foreground, start=1):
        counts = class_counts(matrix, klass)
        if counts.truth and counts.predicted:
            distances = pair.distances(klass, boxes[klass - 1])
            hd95 = distances.pooled_hd95_mm if policy.pooled else distances.hd95_mm
            classes[name] = _score(counts, hd95, distances.nsd(nsd_tolerance_mm))
        elif counts.truth or counts.predicted:
            classes[name] = _score(counts, policy.one_hd95_mm(diagonal), 0.0)
        else:
            classes[name] = _absent(counts, policy)
        if policy.lesions is not None:
            masks = truth == klass, prediction == klass
            classes[name] = _by_lesion(classes[name], *masks, spacing, policy.lesions)
    return CaseMetrics(id, classes)


def score_masks(
    id: str,
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Float3,
    names: Sequence[str],
    policy: EmptyPolicy,
    nsd_tolerance_mm: float = NSD_TOLERANCE_MM,
) -> CaseMetrics:
    """Score masks that may overlap, one per name: (r, d, h, w) of 0 and 1, or booleans; otherwise as `score_case`."""
    if truth.shape != prediction.shape or len(truth) != len(names):
        raise UserError(f"there must be a mask of each of {names}, got shapes {truth.shape} and {prediction.shape}")
    classes: dict[str, ClassMetrics] = {}
    for name, true, predicted in zip(names, truth.astype(np.uint8), prediction.astype(np.uint8), strict=True):
        alone = LabelSet(("outside", name), (0, 1))
        classes |= score_case(id, true, predicted, spacing, alone, policy, nsd_tolerance_mm).classes
    return CaseMetrics(id, classes)


def _check(truth: np.ndarray, spacing: Float3, nsd_tolerance_mm: float) -> None:
    if truth.ndim != 3:
        raise UserError(f"truth must have three axes (2D: the third of length 1), got shape {truth.shape}")
    if not all(math.isfinite(step) and step > 0 for step in spacing):
        raise UserError(f"spacing must be positive mm, got {spacing}")
    if not (math.isfinite(nsd_tolerance_mm) and nsd_tolerance_mm >= 0):
        raise UserError(f"nsd_tolerance_mm must be at least 0, got {nsd_tolerance_mm}")


def _score(counts: Counts, hd95_mm: float | None, nsd: float) -> ClassMetrics:
    ratios = (dice(counts), iou(counts), sensitivity(counts), specificity(counts))
    return ClassMetrics(*ratios, hd95_mm, nsd, counts.truth, counts.predicted)


def _by_lesion(
    scores: ClassMetrics, truth: np.ndarray, prediction: np.ndarray, spacing: Float3, rule: LesionRule
) -> ClassMetrics:
    found = score_lesions(truth, prediction, spacing, rule)
    return replace(scores, dice=found.dice, hd95_mm=found.hd95_mm)


def _absent(counts: Counts, policy: EmptyPolicy) -> ClassMetrics:
    """The class is in neither map."""
    score = policy.both_score
    return ClassMetrics(
        score, score, None, None if score is None else specificity(counts), policy.both_hd95_mm, score, 0, 0
    )


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two class maps without the axes of length 1, where a mask has no surface (a 2D image has only its outline)."""

    truth: np.ndarray
    prediction: np.ndarray
    spacing: tuple[float, ...]

    @classmethod
    def without_thin_axes(cls, truth: np.ndarray, prediction: np.ndarray, spacing: Float3) -> _Pair:
        thin = tuple(axis for axis, length in enumerate(truth.shape) if length == 1)[:2]
        steps = tuple(step for axis, step in enumerate(spacing) if axis not in thin)
        return cls(truth.squeeze(thin), prediction.squeeze(thin), steps)

    def boxes(self, classes: int) -> list[Box]:
        """Per foreground class the bounding box of its voxels in either map, () where there are none."""
        found = [ndimage.find_objects(array, max_label=classes - 1) for array in (self.truth, self.prediction)]
        return [_union(true, predicted) for true, predicted in zip(*found, strict=True)]

    def distances(self, klass: int, box: Box) -> SurfaceDistances:
        # The box may be tight: a voxel at its border that has no neighbour in it has none in the volume either.
        return surface_distances(self.truth[box] == klass, self.prediction[box] == klass, self.spacing)


def _union(first: Box | None, second: Box | None) -> Box:
    if first is None or second is None:
        return first or second or ()
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
