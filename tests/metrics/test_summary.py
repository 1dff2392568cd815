"""Summaries against numpy and scipy, and intervals against the coverage they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from voxward.metrics.summary import Summary, bootstrap_interval, summarise


def test_summary_figures() -> None:
    summary = summarise([0.5, None, 0.7, 0.9, None])
    assert summary is not None
    assert (summary.n, summary.left_out, summary.minimum, summary.maximum) == (3, 2, 0.5, 0.9)
    assert summary.mean == pytest.approx(0.7)
    assert summary.std == pytest.approx(0.2)
    assert (summary.low, summary.high) == bootstrap_interval([0.5, 0.7, 0.9])


def test_one_value_and_none() -> None:
    assert summarise([0.3]) == Summary(0.3, 0.0, 0.3, 0.3, 0.3, 0.3, 1, 0)
    assert summarise([None, None]) is None
    assert summarise([]) is None
    assert bootstrap_interval([2.0]) == (2.0, 2.0)


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(3).beta(8, 2, 40).tolist()
    peer = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=1).confidence_interval
    assert bootstrap_interval(values, resamples=20000) == pytest.approx((peer.low, peer.high), abs=2e-3)


def test_a_95_percent_interval_covers_the_mean_95_percent_of_the_time() -> None:
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(rng.normal(0.8, 0.1, 60).tolist(), resamples=400) for _ in range(300)]
    # 300 trials of 0.95 have a standard error of 0.013.
    assert np.mean([low <= 0.8 <= high for low, high in intervals]) == pytest.approx(0.94, abs=0.035)


def test_seed_confidence_and_order() -> None:
    values = [0.1, 0.4, 0.6, 0.9]
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    narrow, wide = bootstrap_interval(values, 0.5), bootstrap_interval(values, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("values", "confidence", "resamples", "message"),
    [
        ([], 0.95, 10, "at least one value"),
        ([1.0, float("nan")], 0.95, 10, "finite"),
        ([1.0], 1.0, 10, "confidence"),
        ([1.0], 0.95, 0, "resamples"),
    ],
)
def test_wrong_input_is_refused(values: list[float], confidence: float, resamples: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, confidence, resamples)
