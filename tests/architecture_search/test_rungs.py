import itertools

import pytest

from voxward.architecture_search.rungs import (
    RANKINGS,
    SHARES,
    Score,
    Scored,
    front,
    minutes_of_one,
    sizes,
    whole_trainings,
)
from voxward.core.choices import OBJECTIVES, Strategy


def _scored(*figures):
    return [Scored(n, Score(dice, robust), macs) for n, (dice, robust, macs) in enumerate(figures)]


def test_27_candidates_are_worth_7_whole_trainings():
    assert sizes("halving", 27) == ((27, 1 / 9), (9, 1 / 3), (3, 1.0))
    assert whole_trainings("halving", 27) == pytest.approx(7)
    assert whole_trainings("halving", 9) == pytest.approx(9 / 9 + 3 * 2 / 9 + 1 * 2 / 3)
    assert sizes("random", 8) == ((8, 1.0),)
    assert whole_trainings("random", 8) == 8


def test_all_parts_of_a_time_budget_are_the_whole():
    one = minutes_of_one("halving", 27, 80.0)
    assert one == pytest.approx(10.0)
    spent = 10.0 + sum(n * (share - before) * one for (n, share), before in zip(
        sizes("halving", 27), (0.0, *SHARES), strict=False))  # fmt: skip
    assert spent == pytest.approx(80.0)
    assert minutes_of_one("random", 8, 80.0) == pytest.approx(10.0)


def test_ties_are_decided_by_cost():
    found = _scored((0.5, 0.1, 30), (0.7, 0.1, 20), (0.7, 0.3, 10), (-1.0, None, 1))
    assert [one.number for one in RANKINGS["dice"](found)] == [2, 1, 0, 3]
    assert [one.number for one in RANKINGS["robust"](found)] == [2, 1, 0, 3]
    assert [one.number for one in RANKINGS["robust"](_scored((0.9, 0.1, 1), (0.5, 0.2, 1)))] == [1, 0]


def test_the_front_is_what_no_other_candidate_beats():
    dice, macs = (0.2, 0.5, 0.5, 0.9), (10, 20, 40)
    found = _scored(*((d, None, m) for d, m in itertools.product(dice, macs)))
    best = {one.number for one in front(found)}
    for one in found:
        beaten = any(
            (other.score.dice > one.score.dice and other.macs <= one.macs)
            or (other.score.dice >= one.score.dice and other.macs < one.macs)
            for other in found
        )
        assert (one.number in best) != beaten
    ranked = [one.number for one in RANKINGS["pareto"](found)]
    assert set(ranked[: len(best)]) == best
    assert sorted(ranked) == list(range(len(found)))


def test_every_objective_of_a_strategy_ranks():
    assert set(OBJECTIVES) == set(RANKINGS)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strategy": "best"}, "strategy must be one of bilevel, halving, random, got 'best'"),
        ({"strategy": "halving", "objective": "speed"}, "objective must be one of dice, robust, pareto, got 'speed'"),
        ({"strategy": "halving", "candidates": 2}, "candidates must be at least 3 for halving, got 2"),
        ({"strategy": "random", "candidates": 0}, "candidates must be at least 1 for random, got 0"),
        ({"candidates": 9}, "the strategy bilevel does not use candidates"),
        ({"objective": "robust", "candidates": 9}, "does not use candidates and objective"),
    ],
)
def test_wrong_strategies_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        Strategy(**options)


def test_a_name_is_a_strategy():
    assert (Strategy.of("halving").count, Strategy.of("random").count, Strategy(paths=[1]).paths) == (27, 8, (1,))
