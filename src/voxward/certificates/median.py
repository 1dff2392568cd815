"""Median smoothing (Chiang et al., NeurIPS 2020): a lower bound of the median Dice of noisy runs, for every change.

Let D be the Dice of a run on x + noise, with noise N(0, sigma^2 I), and q the Phi(-r) quantile of D, so that D >= q has
a probability of at least Phi(r). By the lemma of Neyman and Pearson, D >= q then has a probability of at least 1/2
around every x + d with ||d||_2 <= r sigma. q is not known; the k-th smallest of n values of D is a lower confidence
bound of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binom, norm

from voxward.certificates.binomial import check_level
from voxward.core.errors import UserError

# As in binomial: a probability that equals alpha up to rounding does not count as below it.
_ROUNDING = 1e-9


def order_statistic(samples: int, radius: float, alpha: float = 0.001) -> int | None:
    """Return which of n sorted values is a lower confidence bound of their Phi(-r) quantile.

    It is the largest k with P[Binomial(n, Phi(-r)) <= k - 1] <= alpha, for values of any distribution, ties included.

    Args:
        samples: The number of values n.
        radius: r, the radius in units of sigma, at least 0.
        alpha: The probability that the bound is wrong.

    Returns:
        k, from 1 for the smallest value; None where n values are too few for this radius.

    Raises:
        UserError: A number is not legal.

    Example:
        >>> voxward.certificates.order_statistic(200, 1.0)
        17
    """
    check_level(alpha)
    if samples < 1:
        raise UserError(f"samples must be at least 1, got {samples}")
    if not 0 <= radius < np.inf:
        raise UserError(f"radius must be a finite number of at least 0, in units of sigma, got {radius}")
    below = binom.cdf(np.arange(samples), samples, norm.sf(radius))  # entry k - 1
    k = int(np.count_nonzero(below * (1 + _ROUNDING) <= alpha))
    return k or None


def certified_median(values: Sequence[float], radius: float, alpha: float = 0.001) -> float | None:
    """Return a Dice that at least half of the noisy runs reach on every volume within a radius.

    Args:
        values: The Dice of n independent noisy runs on the clean volume, each in [0, 1].
        radius: The radius in units of sigma.
        alpha: The probability that the bound is wrong.

    Returns:
        The bound; None where there are too few values for this radius.

    Raises:
        UserError: A number is not legal.

    Example:
        >>> voxward.certificates.certified_median([0.9] * 150 + [0.7] * 50, radius=0.5)
        0.7
    """
    if not np.isfinite(values).all():
        raise UserError("a certificate needs finite values, got NaN or infinity")
    k = order_statistic(len(values), radius, alpha)
    return None if k is None else float(np.sort(np.asarray(values, np.float64))[k - 1])
