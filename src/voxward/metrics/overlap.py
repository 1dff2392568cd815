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
    """Numbers of voxels of one class.

    Attributes:
        true_positive: Voxels of the class in both truth and prediction.
        false_positive: Voxels of the class in the prediction only.
        false_negative: Voxels of the class in the truth only.
        true_negative: All other voxels.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def truth(self) -> int:
        """Number of voxels of the class in the truth."""
        return self.true_positive + self.false_negative

    @property
    def predicted(self) -> int:
        """Number of voxels of the class in the prediction."""
        return self.true_positive + self.false_positive


def confusion(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Count the voxels of every pair of true and predicted class.

    Args:
        truth: Class indices of any shape: integers from 0 to `classes` - 1.
        prediction: Class indices of the same shape.
        classes: Number of classes, the background included.

    Returns:
        Numbers of voxels, int64 of shape (classes, classes); the first axis is the true class.

    Raises:
        UserError: The shapes differ, or a map holds anything else than such integers.
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
    """The counts of one class from a matrix of `confusion`."""
    return part_counts(matrix, (klass,))


def part_counts(matrix: np.ndarray, classes: Sequence[int]) -> Counts:
    """The counts of several classes that are taken as one, such as a region, from a matrix of `confusion`."""
    part = list(classes)
    hit = int(matrix[np.ix_(part, part)].sum())
    predicted, truth = int(matrix[:, part].sum()), int(matrix[part].sum())
    return Counts(hit, predicted - hit, truth - hit, int(matrix.sum()) - predicted - truth + hit)


def dice(counts: Counts) -> float | None:
    """The Dice coefficient 2 TP / (2 TP + FP + FN), in [0, 1]; None where the class is in neither map."""
    return _ratio(2 * counts.true_positive, counts.truth + counts.predicted)


def iou(counts: Counts) -> float | None:
    """The Jaccard index TP / (TP + FP + FN), in [0, 1]; None where the class is in neither map."""
    return _ratio(counts.true_positive, counts.truth + counts.false_positive)


def sensitivity(counts: Counts) -> float | None:
    """The share of the true voxels that was found, TP / (TP + FN); None where there are no true voxels."""
    return _ratio(counts.true_positive, counts.truth)


def specificity(counts: Counts) -> float | None:
    """The share of the other voxels that was left alone, TN / (TN + FP); None where the class fills the volume."""
    return _ratio(counts.true_negative, counts.true_negative + counts.false_positive)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
