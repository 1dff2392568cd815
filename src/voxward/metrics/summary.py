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

    Attributes:
        mean: Mean over the cases.
        std: Standard deviation with n - 1 in the denominator; 0 for one case.
        minimum: Smallest value.
        maximum: Largest value.
        low: Lower end of the bootstrap interval of the mean.
        high: Upper end of that interval.
        n: Number of cases with a value.
        left_out: Number of cases without one.
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
    """How sure the mean over cases is: its percentile bootstrap interval.

    The same values and seed give the same interval. A single value is both ends of its interval.

    Args:
        values: One finite value per case.
        confidence: Share of intervals that hold the true mean, in (0, 1).
        resamples: Number of times that the cases are drawn again, at least 1.
        seed: Seed of these draws.

    Returns:
        The lower and the upper end.

    Raises:
        UserError: There are no values, or an argument is out of its range.
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
    """Summarise a metric over cases.

    Args:
        values: One value per case; None where the metric is undefined.
        confidence: See `bootstrap_interval`, as for the other arguments.
        resamples: See `bootstrap_interval`.
        seed: See `bootstrap_interval`.

    Returns:
        The summary of the defined values; None where there are none.
    """
    defined = [float(value) for value in values if value is not None]
    if not defined:
        return None
    low, high = bootstrap_interval(defined, confidence, resamples, seed)
    array = np.asarray(defined)
    std = float(array.std(ddof=1)) if len(defined) > 1 else 0.0
    extremes = float(array.min()), float(array.max())
    return Summary(float(array.mean()), std, *extremes, low, high, len(defined), len(values) - len(defined))
