import itertools
from dataclasses import replace

import pytest

from voxward.architecture_search.contest import ContestSettings
from voxward.architecture_search.rungs import (
    RANKINGS,
    Score,
    Scored,
    front,
    minutes_of_one,
    older_rungs,
    whole_trainings,
)
from voxward.core.strategy import OBJECTIVES, RUNGS, Strategy, rung_text


def _scored(*figures):
    return [Scored(n, Score(dice, robust), macs) for n, (dice, robust, macs) in enumerate(figures)]


NINTHS = ((27, 1 / 9), (9, 1 / 3), (3, 1.0))


def test_27_candidates_are_worth_7_whole_trainings():
    assert whole_trainings(NINTHS) == pytest.approx(7)
    assert whole_trainings(((9, 1 / 9), (3, 1 / 3), (1, 1.0))) == pytest.approx(9 / 9 + 3 * 2 / 9 + 1 * 2 / 3)
    assert whole_trainings(((8, 1.0),)) == 8


def test_a_search_from_before_rungs_were_a_setting_goes_on_with_its_own():
    assert older_rungs("halving", 27) == NINTHS
    assert [count for count, _ in older_rungs("halving", 10)] == [10, 4, 2]
    assert older_rungs("random", 8) == ((8, 1.0),)
    settings = ContestSettings("data", "halving", "dice", 9, 0, 0)
    assert [count for count, _ in settings.settled_rungs] == [9, 3, 1]
    assert replace(settings, rungs=((4, 0.5), (2, 1.0))).settled_rungs == ((4, 0.5), (2, 1.0))


def test_rungs_are_given_as_pairs_or_texts():
    texts = ("27:1/9", "9:1/3", "3:1")
    assert Strategy("halving", rungs=NINTHS).settled_rungs == Strategy("halving", rungs=texts).settled_rungs == NINTHS
    assert tuple(rung_text(*rung) for rung in NINTHS) == texts
    assert Strategy("halving").settled_rungs == RUNGS
    assert Strategy("random").settled_rungs == ((8, 1.0),)


def test_another_number_of_candidates_changes_all_rungs_in_proportion():
    assert Strategy("halving", candidates=RUNGS[0][0]).settled_rungs == RUNGS
    doubled = Strategy("halving", candidates=2 * RUNGS[0][0]).settled_rungs
    assert doubled == tuple((2 * count, share) for count, share in RUNGS)
    assert [count for count, _ in Strategy("halving", candidates=3).settled_rungs][-1] == 1


def test_all_parts_of_a_time_budget_are_the_whole():
    one = minutes_of_one("halving", NINTHS, 80.0)
    assert one == pytest.approx(10.0)
    spent = 10.0 + sum(n * (share - before) * one for (n, share), before in zip(
        NINTHS, (0.0, 1 / 9, 1 / 3), strict=True))  # fmt: skip
    assert spent == pytest.approx(80.0)
    assert minutes_of_one("random", ((8, 1.0),), 80.0) == pytest.approx(10.0)


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
        ({"strategy": "halving", "rungs": ("9",)}, "a rung must be a number of candidates and a share .* got '9'"),
        ({"strategy": "halving", "rungs": ("9:1/0",)}, "a rung must be a number of candidates and a share"),
        ({"strategy": "halving", "rungs": ("9:nan", "3:1")}, "a rung must be a number of candidates and a share"),
        ({"strategy": "halving", "rungs": ()}, "rungs must begin with at least 3 candidates"),
        ({"strategy": "halving", "rungs": ("2:1/3", "1:1")}, r"at least 3 candidates, and not grow, got \[2, 1\]"),
        ({"strategy": "halving", "rungs": ("5:1/3", "6:1")}, "and not grow"),
        ({"strategy": "halving", "rungs": ("5:1/3", "0:1")}, "and not grow"),
        ({"strategy": "halving", "rungs": ("9:1/3", "3:1/2")}, "must be above 0, grow, and end at 1"),
        ({"strategy": "halving", "rungs": ("9:1/3", "5:1/3", "3:1")}, "must be above 0, grow, and end at 1"),
        ({"strategy": "halving", "rungs": ("9:-1", "3:1")}, "must be above 0"),
        ({"strategy": "halving", "rungs": ("9:1/3", "3:1"), "candidates": 9}, "give rungs or candidates, not both"),
        ({"strategy": "random", "rungs": ("9:1/3", "3:1")}, "the strategy random does not use rungs"),
        ({"candidates": 9}, "the strategy bilevel does not use candidates"),
        ({"objective": "robust", "candidates": 9}, "does not use candidates and objective"),
    ],
)
def test_wrong_strategies_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        Strategy(**options)


def test_a_name_is_a_strategy():
    assert (Strategy.of("halving").count, Strategy.of("random").count) == (RUNGS[0][0], 8)
    assert Strategy(paths=[1]).paths == (1,)
