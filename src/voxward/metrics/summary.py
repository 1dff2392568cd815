"""Many cases in one line: mean, spread, extremes, and how sure the mean is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxward.core.errors import UserError


@dataclass(frozen=True)
class Summary:
    """A metric over cases, in the metric's unit.

    `std` has n - 1 in its denominator (0 for one case); `low` and `high` bound the mean's bootstrap interval; `n`
    cases are summarised and `left_out` had no defined value.
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    low: float
    high: float
    n: int
    left_out: int


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over cases: the same values and seed give the same interval.

    A single value gives itself twice. Raises ValueError for no values, values that are not finite, a confidence
    outside (0, 1) or fewer than one resample.
    """
    if not values:
        raise UserError("an interval needs at least one value, got none")
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"values must be finite, got {[value for value in values if not math.isfinite(value)][:5]}")
    if not 0 < confidence < 1:
        raise UserError(f"confidence must be in (0, 1), got {confidence}")
    if resamples < 1:
        raise UserError(f"resamples must be at least 1, got {resamples}")
    if len(values) == 1:
        return float(values[0]), float(values[0])
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    means = np.asarray(values, dtype=np.float64)[drawn].mean(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def summarise(
    values: Sequence[float | None], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Summary | None:
    """Summarise the defined values; None where there are none."""
    defined = [float(value) for value in values if value is not None]
    if not defined:
        return None
    low, high = bootstrap_interval(defined, confidence, resamples, seed)
    array = np.asarray(defined)
    std = float(array.std(ddof=1)) if len(defined) > 1 else 0.0
    extremes = float(array.min()), float(array.max())
    return Summary(float(array.mean()), std, *extremes, low, high, len(defined), len(values) - len(defined))
