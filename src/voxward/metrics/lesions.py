"""Lesion-wise Dice and HD95 in the style of BraTS 2023: every lesion counts alike, and so does a false one.

The rules are those of the challenge's metrics (github.com/rachitsaluja/BraTS-2023-Metrics) in code of our own. As in
the other metrics, a surface distance lies between the centres of surface voxels, each counted once. The challenge
weights them by the area of the surface's pieces, so that its HD95 may differ by a fraction of a voxel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from voxward.core.errors import UserError
from voxward.core.spacing import voxel_mm3, without_axes
from voxward.core.types import Float3
from voxward.metrics.surface import surface_distances

# Neighbours of a voxel: lesions hang together over corners (26), and grow over faces and edges (18) in one step.
_CONNECTED, _GROWTH = (ndimage.generate_binary_structure(3, rank) for rank in (3, 2))

Box = tuple[slice, ...]


@dataclass(frozen=True)
class LesionRule:
    """What one lesion is, which lesions count, and what a missed or a false one costs.

    The defaults are those of BraTS 2023 for gliomas, also in Africa and in children. Its meningiomas have dilation 1,
    and its metastases dilation 1 and least_mm3 2.

    Attributes:
        dilation: Steps by which the true mask grows, over 18 neighbours. True lesions that meet when grown are one. A
            predicted component belongs to every true lesion whose grown mask it touches.
        least_mm3: True lesions of this volume in mm3 or less are not scored; what is predicted there is not false.
        penalty_mm: HD95 in mm of a missed and of a false lesion. Their Dice is 0.

    Raises:
        UserError: A value is negative or not finite.
    """

    dilation: int = 3
    least_mm3: float = 50.0
    penalty_mm: float = 374.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be at least 0, got {value}")


@dataclass(frozen=True)
class Lesion:
    """The scores of one true lesion.

    Attributes:
        volume_mm3: Its volume in mm3.
        dice: Dice in [0, 1] with the predicted components that belong to it.
        hd95_mm: HD95 in mm with these components.
        found: Whether there are any.
    """

    volume_mm3: float
    dice: float
    hd95_mm: float
    found: bool


@dataclass(frozen=True)
class LesionScores:
    """The scores of one mask, lesion by lesion.

    Attributes:
        lesions: The true lesions that are scored.
        false_positives: Number of predicted lesions that belong to no true one.
        penalty_mm: HD95 in mm of such a false lesion.
    """

    lesions: tuple[Lesion, ...]
    false_positives: int
    penalty_mm: float

    @property
    def dice(self) -> float:
        """The mean Dice over true and false lesions, in [0, 1]; 1 where there is neither."""
        return self._mean([lesion.dice for lesion in self.lesions], 0.0, 1.0)

    @property
    def hd95_mm(self) -> float:
        """The mean HD95 in mm over true and false lesions; 0 where there is neither."""
        return self._mean([lesion.hd95_mm for lesion in self.lesions], self.penalty_mm, 0.0)

    def _mean(self, values: list[float], false: float, nothing: float) -> float:
        count = len(values) + self.false_positives
        return (sum(values) + false * self.false_positives) / count if count else nothing


def score_lesions(
    truth: np.ndarray, prediction: np.ndarray, spacing: Float3, rule: LesionRule | None = None
) -> LesionScores:
    """Score a predicted mask of one region lesion by lesion.

    Args:
        truth: The true mask: booleans of shape (d, h, w). A 2D image has an axis of length 1.
        prediction: The predicted mask, of the same shape.
        spacing: Size of a voxel along each axis, in mm.
        rule: What one lesion is; by default the rule of BraTS 2023 for gliomas.

    Returns:
        The scores of the true lesions, and the number of false ones.

    Raises:
        UserError: The masks are not boolean, have not three axes or not one shape, or the spacing is not positive.
    """
    _check(truth, prediction, spacing)
    rule = rule or LesionRule()
    true, _ = ndimage.label(_grown(truth, rule.dilation), _CONNECTED)
    true[~truth] = 0
    predicted, count = ndimage.label(prediction, _CONNECTED)
    boxes: list[Box] = ndimage.find_objects(predicted)
    lesions, matched = [], set[int]()
    for number, box in enumerate(ndimage.find_objects(true), 1):
        touched = _touched(true, predicted, number, box, rule.dilation)
        matched |= touched
        whole = _around([box, *(boxes[n - 1] for n in touched)])
        pair = true[whole] == number, np.isin(predicted[whole], sorted(touched))
        lesion = _scored(*pair, truth.shape, spacing, rule.penalty_mm)
        lesions += [lesion] if lesion.volume_mm3 > rule.least_mm3 else []
    return LesionScores(tuple(lesions), int(count) - len(matched), rule.penalty_mm)


def _check(truth: np.ndarray, prediction: np.ndarray, spacing: Float3) -> None:
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise UserError(
            f"truth and prediction must have one shape of three axes, got {truth.shape} and {prediction.shape}"
        )
    if not truth.dtype == prediction.dtype == np.bool_:
        raise UserError(f"truth and prediction must be boolean, got {truth.dtype} and {prediction.dtype}")
    if not all(math.isfinite(step) and step > 0 for step in spacing):
        raise UserError(f"spacing must be positive mm, got {spacing}")


def _touched(true: np.ndarray, predicted: np.ndarray, number: int, box: Box, dilation: int) -> set[int]:
    """The predicted components that the true lesion `number`, which lies in `box`, touches when it is grown."""
    wide = tuple(slice(max(side.start - dilation, 0), side.stop + dilation) for side in box)
    reach = _grown(true[wide] == number, dilation)
    return set(np.unique(predicted[wide][reach]).tolist()) - {0}


def _grown(mask: np.ndarray, dilation: int) -> np.ndarray:
    # SciPy takes 0 iterations for "until nothing changes".
    grown: np.ndarray = ndimage.binary_dilation(mask, _GROWTH, dilation) if dilation else mask
    return grown


def _around(boxes: list[Box]) -> Box:
    """The smallest box that holds all of the boxes."""
    sides = zip(*boxes, strict=True)
    return tuple(slice(min(one.start for one in side), max(one.stop for one in side)) for side in sides)


def _scored(
    truth: np.ndarray, prediction: np.ndarray, shape: tuple[int, ...], spacing: Float3, penalty_mm: float
) -> Lesion:
    """Score one lesion; both masks are cut out of a volume of shape `shape`."""
    true, predicted = np.count_nonzero(truth), np.count_nonzero(prediction)
    volume = float(true * voxel_mm3(spacing))
    if not predicted:
        return Lesion(volume, 0.0, penalty_mm, False)
    dice = float(2 * np.count_nonzero(truth & prediction) / (true + predicted))
    # Along an axis of length 1 a mask has no surface: a 2D image has only its outline.
    thin = tuple(axis for axis, length in enumerate(shape) if length == 1)[:2]
    steps = without_axes(spacing, thin)
    return Lesion(volume, dice, surface_distances(truth.squeeze(thin), prediction.squeeze(thin), steps).hd95_mm, True)
