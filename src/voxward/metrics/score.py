"""The scores of one case: every metric of every foreground class or region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from voxward.core.errors import UserError
from voxward.core.labels import IGNORED, LabelSet
from voxward.core.registry import unknown_name
from voxward.core.types import Float3
from voxward.metrics.comparison import Comparison, Maps
from voxward.metrics.policies import STANDARD, Scoring
from voxward.metrics.registry import METRICS, PRIMARY


@dataclass(frozen=True)
class ClassMetrics:
    """The scores of one class in one case.

    Attributes:
        scores: The value of each of `metrics.registry.METRICS` by name; None where the policy leaves it undefined.
        truth_voxels: Voxels of the class in the truth.
        predicted_voxels: Voxels of the class in the prediction.

    Example:
        >>> case.classes["liver"]["hd95_mm"]
        4.2
    """

    scores: Mapping[str, float | None]
    truth_voxels: int
    predicted_voxels: int

    def __getitem__(self, metric: str) -> float | None:
        """The value of a metric. Raises UserError, which lists all metrics, for an unknown name."""
        if metric not in self.scores:
            raise UserError(unknown_name("metric", metric, self.scores))
        return self.scores[metric]

    @property
    def dice(self) -> float | None:
        """The Dice in [0, 1]; None where it is undefined."""
        return self.scores[PRIMARY]

    def figures(self) -> dict[str, float | int | None]:
        """All numbers by name, as files hold them: the metrics, then the voxel counts."""
        counts = {"truth_voxels": self.truth_voxels, "predicted_voxels": self.predicted_voxels}
        return {**self.scores, **counts}


@dataclass(frozen=True)
class CaseMetrics:
    """The scores of one case.

    Attributes:
        id: The case.
        classes: The scores of its foreground classes, or of its regions, by name.
        unannotated: The share of its voxels that nobody has annotated, in [0, 1]. They count in no score.
    """

    id: str
    classes: Mapping[str, ClassMetrics]
    unannotated: float = 0.0

    def mean(self, metric: str) -> float | None:
        """The mean of a metric over the classes that define it.

        Args:
            metric: One of `metrics.registry.METRICS`.

        Returns:
            The mean, or None where no class defines the metric.

        Raises:
            UserError: The metric is unknown.
        """
        values = [value for entry in self.classes.values() if (value := entry[metric]) is not None]
        return sum(values) / len(values) if values else None


def score_case(
    id: str,
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Float3,
    labels: LabelSet,
    scoring: Scoring = STANDARD,
) -> CaseMetrics:
    """Score a predicted class map with every metric.

    Args:
        id: The name that the scores get.
        truth: Class indices of `labels`, integers of shape (d, h, w). A 2D image has a third axis of length 1. With an
            ignore label, unannotated voxels are `IGNORED`: the two maps are compared in the other voxels only.
        prediction: Class indices of the same shape.
        spacing: Size of a voxel along each axis, in mm.
        labels: The classes. If it has regions, these are scored instead of the classes.
        scoring: Policy for empty masks, and the metrics' options.

    Returns:
        The scores of all foreground classes, or regions.

    Raises:
        UserError: The maps are not 3D, differ in shape or hold an unknown class, or the spacing is not positive.
    """
    unknown = labels.ignored(truth)
    if unknown is not None:
        truth, prediction = (np.where(unknown, 0, array) for array in (truth, _like(prediction, unknown)))
    if labels.regions:
        true, predicted = labels.region_maps.to_masks(truth), labels.region_maps.to_masks(prediction)
        return score_masks(id, true, predicted, spacing, labels.scored, scoring, unknown)
    maps = Maps(truth, prediction, spacing, labels.count, unknown)
    classes = {name: _scores(Comparison(maps, klass, scoring)) for klass, name in enumerate(labels.foreground, start=1)}
    return CaseMetrics(id, classes, 0.0 if unknown is None else float(unknown.mean()))


def score_masks(
    id: str,
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Float3,
    names: Sequence[str],
    scoring: Scoring = STANDARD,
    unknown: np.ndarray | None = None,
) -> CaseMetrics:
    """Score masks that may overlap, such as regions, each by itself.

    Args:
        id: The name that the scores get.
        truth: One mask per name: booleans, or 0 and 1, of shape (r, d, h, w).
        prediction: Masks of the same shape.
        spacing: Size of a voxel along each axis, in mm.
        names: The masks' names, r of them.
        scoring: Policy for empty masks, and the metrics' options.
        unknown: Which voxels nobody has annotated: booleans of shape (d, h, w), or None. They count in no score.

    Returns:
        The scores of all masks by name.

    Raises:
        UserError: The shapes differ or do not fit the names, or for what `score_case` refuses.
    """
    if truth.shape != prediction.shape or len(truth) != len(names):
        raise UserError(f"there must be a mask of each of {names}, got shapes {truth.shape} and {prediction.shape}")
    classes: dict[str, ClassMetrics] = {}
    for name, true, predicted in zip(names, truth.astype(np.uint8), prediction.astype(np.uint8), strict=True):
        alone = LabelSet(("outside", name), (0, 1), ignore=None if unknown is None else IGNORED)
        true = true if unknown is None else np.where(unknown, np.uint8(IGNORED), true)
        classes |= score_case(id, true, predicted, spacing, alone, scoring).classes
    return CaseMetrics(id, classes, 0.0 if unknown is None else float(unknown.mean()))


def dice_scores(
    truth: np.ndarray, prediction: np.ndarray, spacing: Float3, labels: LabelSet, scoring: Scoring = STANDARD
) -> tuple[float | None, ...]:
    """Return the Dice alone of every foreground class, or region, as `score_case` computes it.

    Surface distances take much longer than the Dice, which is all that thousands of noisy segmentations are asked for.

    Args:
        truth: Class indices (d, h, w); see `score_case`.
        prediction: Class indices of the same shape.
        spacing: Size of a voxel along each axis, in mm.
        labels: The classes. If it has regions, these are scored instead of the classes.
        scoring: Policy for empty masks.

    Returns:
        A Dice in [0, 1] per class or region; None where the policy leaves it undefined.
    """
    unknown = labels.ignored(truth)
    if unknown is not None:
        truth, prediction = (np.where(unknown, 0, array) for array in (truth, _like(prediction, unknown)))
    if not labels.regions:
        maps = Maps(truth, prediction, spacing, labels.count, unknown)
        masks = [Comparison(maps, klass, scoring) for klass in range(1, labels.count)]
    else:
        pairs = zip(
            *(labels.region_maps.to_masks(array).astype(np.uint8) for array in (truth, prediction)), strict=True
        )
        masks = [Comparison(Maps(true, found, spacing, 2, unknown), 1, scoring) for true, found in pairs]
    return tuple(METRICS[PRIMARY].measure(mask) for mask in masks)


def _like(prediction: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    if prediction.shape != unknown.shape:
        raise UserError(f"truth and prediction must have one shape, got {unknown.shape} and {prediction.shape}")
    return prediction


def _scores(masks: Comparison) -> ClassMetrics:
    scores = {name: metric.measure(masks) for name, metric in METRICS.items()}
    return ClassMetrics(scores, masks.counts.truth, masks.counts.predicted)
