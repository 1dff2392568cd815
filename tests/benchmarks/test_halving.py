import itertools

import numpy as np
import pytest
from benchmarks.halving import _difference, _value
from benchmarks.halving_rank import correlation, registered


def _counts(dice, cases=4):
    """Counts of cases of one class whose Dice is this."""
    return [[[50.0 * dice], [50.0], [50.0]] for _ in range(cases)]


def _row(of, *networks):
    return {"of": of, "found": [{"selection": selection, "counts": _counts(dice)} for selection, dice in networks]}


def test_the_best_of_some_is_the_mean_over_all_choices_of_them():
    networks = [(0.9, 0.3), (0.1, 0.8), (0.5, 0.6), (0.7, 0.2)]
    chosen = [max(choice)[1] for choice in itertools.combinations(networks, 2)]
    assert _value(_row(2, *networks)) == pytest.approx(np.mean(chosen))
    assert _value(_row(1, (0.0, 0.7))) == pytest.approx(0.7)
    assert _value(_row(4, *networks)) == pytest.approx(0.3)


def test_a_difference_is_that_of_pairs():
    ours, theirs = [_row(1, (0, d)) for d in (0.5, 0.7)], [_row(1, (0, d)) for d in (0.4, 0.6)]
    assert _difference(ours, theirs) == "+0.1000 [+0.1000, +0.1000]"


def test_the_correlation_is_that_of_ranks():
    assert correlation([1, 2, 30, 40], [0.1, 0.2, 0.3, 0.9]).startswith("+1.00")
    assert correlation([4, 3, 2, 1], [0.1, 0.2, 0.3, 0.9]).startswith("-1.00")


def test_the_registered_networks_are_all_different():
    names = [network["name"] for network in registered(100)]
    assert len(names) == len(set(names)) == 56
    assert len(registered(5)) == 5
