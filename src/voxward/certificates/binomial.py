"""Exact binomial tests of very many voxels at once, corrected for their number.

Every test asks: is the probability of an answer above tau, given how often the answer was counted in n runs? All
p-values therefore come from n + 1 possible counts, and a correction comes down to one number: the smallest count that
is enough. So a whole volume is tested from a histogram of its counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.stats import binom

from voxward.core.errors import UserError
from voxward.core.registry import Registry

# A computed p-value may be off by this share of it: one that equals its limit must not count as below.
_ROUNDED = 1 + 1e-9

Correction = Callable[[np.ndarray, np.ndarray, float], int | None]
"""From p-values of the counts 0 to n (n + 1), how many tests have each count (n + 1), and alpha to the smallest count
that is enough; None where no count is."""


@lru_cache(maxsize=64)
def p_values(samples: int, tau: float) -> np.ndarray:
    """Return for every count the probability to see at least that count where the answer's probability is tau.

    Args:
        samples: The number of runs n.
        tau: The probability in the null hypothesis "the answer's probability is at most tau".

    Returns:
        The exact one-sided p-values of the counts 0 to n, falling; float64 of shape (n + 1,).
    """
    found: np.ndarray = binom.sf(np.arange(samples + 1) - 1, samples, tau)
    found.setflags(write=False)  # it is kept
    return found


def bonferroni(p: np.ndarray, tests: np.ndarray, alpha: float) -> int | None:
    """Return the smallest count whose p-value is below alpha divided by the number of tests.

    Args:
        p: The p-values of the counts 0 to n.
        tests: How many tests have each count.
        alpha: The probability that any rejected null hypothesis holds.
    """
    enough = np.flatnonzero(p * _ROUNDED < alpha / max(1, int(tests.sum())))
    return int(enough[0]) if enough.size else None


def holm(p: np.ndarray, tests: np.ndarray, alpha: float) -> int | None:
    """Return the smallest count that is enough by Holm's procedure (1979), which needs no assumption.

    The tests are gone through from the smallest p-value on; with r tests left, the next one must be below alpha / r.
    Tests with equal counts are decided together: where the first of them passes, so do the others.

    Args:
        p: The p-values of the counts 0 to n.
        tests: How many tests have each count.
        alpha: The probability that any rejected null hypothesis holds.
    """
    left, enough = int(tests.sum()), None
    for count in np.flatnonzero(tests)[::-1].tolist():
        if not p[count] * _ROUNDED < alpha / left:
            break
        enough, left = count, left - int(tests[count])
    return enough


CORRECTIONS: Registry[Correction] = Registry("correction", {"holm": holm, "bonferroni": bonferroni})
"""The ways to test many hypotheses at once, by name."""


def smallest_count(tests: np.ndarray, tau: float, alpha: float, correction: str = "holm") -> int | None:
    """Return how often an answer must have been counted so that it is certain to have a probability above tau.

    Args:
        tests: How many tests have each count from 0 to n, integers (n + 1,).
        tau: The threshold of the probability, in [0.5, 1).
        alpha: The probability that any of the certain answers is wrong, in (0, 1).
        correction: One of CORRECTIONS.

    Returns:
        The smallest count that is enough; None where none is.

    Raises:
        UserError: tau, alpha or the correction is not legal.
    """
    check_level(alpha)
    if not 0.5 <= tau < 1:
        raise UserError(f"tau must be at least 0.5 and below 1, got {tau:g}")
    return CORRECTIONS[correction](p_values(len(tests) - 1, tau), tests, alpha)


def smallest_samples(tests: int, tau: float, alpha: float) -> int:
    """Return the smallest n at which an answer that all n runs agree on is certain, by Bonferroni.

    Args:
        tests: The number of tests.
        tau: The threshold of the probability, in (0, 1).
        alpha: The probability that any of the certain answers is wrong.
    """
    n = max(1, int(np.log(alpha / tests) / np.log(tau)))
    while not tau**n * _ROUNDED < alpha / tests:
        n += 1
    return n


def check_level(alpha: float) -> None:
    """Refuse an alpha that is no probability of an error."""
    if not 0 < alpha < 1:
        raise UserError(f"alpha must be above 0 and below 1, got {alpha:g}")
