"""How well two segmentations overlap: voxel counts of every class in one pass, and the ratios made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from voxward.core.errors import UserError

# Voxels counted at once: bincount works on 64-bit integers, and a whole CT of them would take gigabytes.
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Counts:
    """Voxels of one class: true and predicted, predicted only, true only, neither."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def truth(self) -> int:
        """Voxels of the class in the truth."""
        return self.true_positive + self.false_negative

    @property
    def predicted(self) -> int:
        """Voxels of the class in the prediction."""
        return self.true_positive + self.false_positive


def confusion(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Voxels per (true class, predicted class): int64, shape (classes, classes).

    Both are integer class maps of one shape, values 0 to classes - 1; anything else raises ValueError.
    """
    if truth.shape != prediction.shape:
        raise UserError(f"truth and prediction must have one shape, got {truth.shape} and {prediction.shape}")
    for name, array in (("truth", truth), ("prediction", prediction)):
        if not np.issubdtype(array.dtype, np.integer):
            raise UserError(f"{name} must hold integer class indices, got {array.dtype}")
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < classes:
            raise UserError(f"{name} must hold classes 0 to {classes - 1}, got {array.min()} to {array.max()}")
    # The order of the voxels does not matter as long as both maps are read in the same one; "F" is how NIfTI stores.
    order: Literal["F", "C"] = "F" if truth.flags.f_contiguous and prediction.flags.f_contiguous else "C"
    true, predicted = truth.ravel(order), prediction.ravel(order)
    counts = np.zeros(classes * classes, dtype=np.int64)
    for start in range(0, true.size, _CHUNK):
        stop = start + _CHUNK
        pair = true[start:stop].astype(np.int64) * classes + predicted[start:stop]
        counts += np.bincount(pair, minlength=classes * classes)
    return counts.reshape(classes, classes)


def class_counts(matrix: np.ndarray, klass: int) -> Counts:
    """The counts of one class from a confusion matrix."""
    return part_counts(matrix, (klass,))


def part_counts(matrix: np.ndarray, classes: Sequence[int]) -> Counts:
    """The same for several classes as one thing, such as a region."""
    part = list(classes)
    hit = int(matrix[np.ix_(part, part)].sum())
    predicted, truth = int(matrix[:, part].sum()), int(matrix[part].sum())
    return Counts(hit, predicted - hit, truth - hit, int(matrix.sum()) - predicted - truth + hit)


def dice(counts: Counts) -> float | None:
    """2 TP / (2 TP + FP + FN); None where the class is in neither map."""
    return _ratio(2 * counts.true_positive, counts.truth + counts.predicted)


def iou(counts: Counts) -> float | None:
    """TP / (TP + FP + FN), the Jaccard index; None where the class is in neither map."""
    return _ratio(counts.true_positive, counts.truth + counts.false_positive)


def sensitivity(counts: Counts) -> float | None:
    """TP / (TP + FN), the found share of the true voxels; None where there are none."""
    return _ratio(counts.true_positive, counts.truth)


def specificity(counts: Counts) -> float | None:
    """TN / (TN + FP), the share of the other voxels that is left alone; None where the class fills the volume."""
    return _ratio(counts.true_negative, counts.true_negative + counts.false_positive)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
