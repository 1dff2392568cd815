"""The certified median against the table of the specification, and against a system whose worst case is known."""

from __future__ import annotations

import numpy as np
import pytest

from voxward.certificates import Frame, certified_median, noisy, order_statistic, stream
from voxward.core.errors import UserError


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(100, (17, 6, 1, None)), (200, (42, 17, 4, None)), (500, (123, 55, 17, 3)), (1000, (264, 124, 44, 10))],
)
def test_the_table_of_the_specification(samples: int, expected: tuple[int | None, ...]) -> None:
    assert tuple(order_statistic(samples, radius) for radius in (0.5, 1.0, 1.5, 2.0)) == expected


def test_the_order_of_the_values_does_not_matter_and_ties_do_no_harm() -> None:
    values = [0.5] * 10 + [0.9] * 190
    assert certified_median(values[::-1], 1.0) == certified_median(values, 1.0) == 0.9
    assert certified_median(values, 1.5) == 0.5


def test_too_few_values_certify_nothing() -> None:
    assert certified_median([0.9] * 100, 2.0) is None


@pytest.mark.parametrize("radius", [-0.1, float("inf"), float("nan")])
def test_a_radius_that_is_none_is_refused(radius: float) -> None:
    with pytest.raises(UserError, match="radius"):
        order_statistic(100, radius)


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="finite"):
        certified_median([0.5, float("nan")], 0.0)


def test_the_bound_is_never_above_the_worst_median_of_a_linear_system() -> None:
    """A system whose Dice rises with w.x: the worst change within R is -R w / |w|, and its median is known exactly."""
    rng, sigma, broken, worth = np.random.default_rng(1), 0.25, 0, 0
    frame = Frame((0.0,), (1.0,), np.zeros((1, 3, 3, 3), bool))
    for trial in range(20):
        w, x = rng.standard_normal((1, 3, 3, 3)), rng.random((1, 3, 3, 3))
        at, slope = float((w * x).sum()), float(np.linalg.norm(w))

        def dice(score: float, at: float = at, slope: float = slope) -> float:
            return 1 / (1 + np.exp(-(score - at) / slope))

        values = [dice((w * noisy(x, sigma, frame, stream(trial, n))).sum()) for n in range(200)]
        for radius in (0.5, 1.0):
            found, worst = certified_median(values, radius), dice(at - radius * sigma * slope)
            assert found is not None
            broken += found > worst
            worth += found > dice(at - 2.5 * radius * sigma * slope)
    assert broken == 0
    assert worth > 30  # of 40: not vacuous
