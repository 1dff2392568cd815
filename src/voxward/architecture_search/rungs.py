"""The rungs of successive halving: how many candidates are trained how far, and who goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from voxward.core.registry import Registry
from voxward.core.strategy import Rungs

SUPER_NET = 1 / 8
"""The share of a time budget that the super-net gets, which proposes a third of the candidates of `halving`."""


@dataclass(frozen=True)
class Score:
    """What a candidate reached at the end of a rung, with the exponential mean of its weights.

    Args:
        dice: The Dice score (0 to 1) on the selection patches; -1 for a training that failed.
        robust: The same on patches that APGD on the soft Dice has perturbed; None where the search does not ask for it.
        steps: The number of steps so far.
        seconds: The seconds of the training so far.
    """

    dice: float
    robust: float | None = None
    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Scored:
    """A candidate with its score and cost, as it is ranked.

    Args:
        number: The number of the candidate.
        score: Its score at the present rung.
        macs: Its multiply-adds for one patch.
    """

    number: int
    score: Score
    macs: int


def _by_dice(found: Sequence[Scored]) -> list[Scored]:
    return sorted(found, key=lambda one: (-one.score.dice, one.macs, one.number))


def _by_robust(found: Sequence[Scored]) -> list[Scored]:
    return sorted(found, key=lambda one: (-_robust(one), -one.score.dice, one.macs, one.number))


def _by_fronts(found: Sequence[Scored]) -> list[Scored]:
    """Those that no other candidate beats in both Dice and cost come first, then those without these, and so on."""
    left, ranked = list(found), list[Scored]()
    while left:
        first = front(left)
        ranked += first
        left = [one for one in left if one not in first]
    return ranked


def front(found: Sequence[Scored]) -> list[Scored]:
    """Return the candidates that no other one beats in Dice and cost (the Pareto front), the best Dice first."""
    return _by_dice([one for one in found if not any(_beats(other, one) for other in found)])


def _beats(one: Scored, other: Scored) -> bool:
    """Whether a candidate is as good as another one in both, and better in one of them."""
    mine, theirs = (one.score.dice, -one.macs), (other.score.dice, -other.macs)
    return mine != theirs and mine[0] >= theirs[0] and mine[1] >= theirs[1]


def _robust(one: Scored) -> float:
    return -1.0 if one.score.robust is None else one.score.robust


RANKINGS = Registry("objective", {"dice": _by_dice, "robust": _by_robust, "pareto": _by_fronts})
"""Functions that sort candidates, the best one first."""


def older_rungs(strategy: str, candidates: int) -> Rungs:
    """Return the rungs of a search that was begun when they were no setting: thirds, at 1/9, 1/3 and the end.

    Args:
        strategy: `halving`, or `random`, whose candidates are all trained to the end.
        candidates: The number of candidates at the beginning, at least 1.
    """
    if strategy == "random":
        return ((candidates, 1.0),)
    return tuple((math.ceil(candidates / 3**n), share) for n, share in enumerate((1 / 9, 1 / 3, 1.0)))


def whole_trainings(rungs: Rungs) -> float:
    """Return how many whole trainings all rungs are worth; 27 candidates to 1/9, 9 to 1/3, 3 to the end are worth 7."""
    begun = (0.0, *(share for _, share in rungs))
    return sum(count * (share - before) for (count, share), before in zip(rungs, begun, strict=False))


def minutes_of_one(strategy: str, rungs: Rungs, minutes: float) -> float:
    """Return the time budget of one whole training.

    Args:
        strategy: `halving` or `random`.
        rungs: How many candidates are trained to which share.
        minutes: The time budget of the search, of which the super-net of `halving` has its share.
    """
    share = 1.0 - SUPER_NET if strategy == "halving" else 1.0
    return share * minutes / whole_trainings(rungs)
