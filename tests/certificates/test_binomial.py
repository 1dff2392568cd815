"""Exact tests of many voxels: limits, corrections, and the guarantee on voxels whose probabilities are known."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from voxward.certificates import Part, Votes, certify_mask, smallest_count
from voxward.certificates.binomial import CORRECTIONS, p_values, smallest_samples
from voxward.core.errors import UserError


def _exact(n: int, tau: float, count: int) -> float:
    return sum(comb(n, k) * tau**k * (1 - tau) ** (n - k) for k in range(count, n + 1))


def test_p_values_are_those_of_the_binomial_sum() -> None:
    found = p_values(20, 0.75)
    assert found == pytest.approx([_exact(20, 0.75, count) for count in range(21)], rel=1e-9)


@pytest.mark.parametrize(("tests", "expected"), [(60_000, (63, 170, 350, 1783)), (1_000_000, (73, 197, 405, 2062))])
def test_the_smallest_number_of_agreeing_runs(tests: int, expected: tuple[int, ...]) -> None:
    """The table of the specification."""
    assert tuple(smallest_samples(tests, tau, 0.001) for tau in (0.75, 0.9, 0.95, 0.99)) == expected


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_a_histogram_decides_as_sorted_p_values_do(correction: str) -> None:
    """Holm and Bonferroni as the textbook writes them, on single tests, with very many ties."""
    rng, n, tau, alpha = np.random.default_rng(3), 40, 0.5, 0.05
    for _ in range(200):
        probability = rng.choice([0.5, 0.7, 0.9, 0.97], size=rng.integers(1, 60))
        counts = rng.binomial(n, probability)
        p = np.sort([_exact(n, tau, count) for count in counts])
        limits = alpha / (np.arange(len(p), 0, -1) if correction == "holm" else np.full(len(p), len(p)))
        rejected = int(np.argmin(p < limits)) if (p >= limits).any() else len(p)
        found = smallest_count(np.bincount(counts, minlength=n + 1), tau, alpha, correction)
        assert (0 if found is None else int((counts >= found).sum())) == rejected


def test_a_p_value_that_equals_its_limit_does_not_count() -> None:
    """One test of one run at tau .5: the p-value of a count of 1 is .5 exactly."""
    tests = np.array([0, 1])
    assert smallest_count(tests, 0.5, 0.5) is None
    assert smallest_count(tests, 0.5, 0.5 + 1e-6) == 1


@pytest.mark.parametrize(("tau", "alpha"), [(0.4, 0.001), (1.0, 0.001), (0.75, 0.0), (0.75, 1.0)])
def test_levels_that_mean_nothing_are_refused(tau: float, alpha: float) -> None:
    with pytest.raises(UserError, match="must be"):
        smallest_count(np.array([0, 1]), tau, alpha)


def test_all_certified_answers_are_right_at_once_and_there_are_many() -> None:
    """Bernoulli voxels of known probabilities, many of them exactly at the threshold, which is the worst case."""
    rng, n, tau = np.random.default_rng(0), 200, 0.75
    probability = np.concatenate([np.full(80, tau), np.full(40, 1 - tau), np.full(40, 0.98), np.full(40, 0.01)])
    sure, wrong, found = np.maximum(probability, 1 - probability) > 0.9, 0, 0
    draws = rng.binomial(n, probability, size=(2000, 200)).astype(np.uint16)
    for counts in draws:
        mask = certify_mask(Votes(n, counts.reshape(1, 200, 1, 1)), [Part("a", (1,))], tau)
        inside, outside = mask.inside.ravel(), mask.outside.ravel()
        wrong += bool((inside & ~(probability > tau)).any() or (outside & ~(1 - probability > tau)).any())
        found += int((inside | outside)[sure].sum())
    assert wrong <= 2  # of 2,000
    assert found > 0.95 * 2000 * sure.sum()
