"""How an architecture is searched, and what counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from voxward.core.errors import UserError

STRATEGIES = ("bilevel", "halving", "random")
"""The ways to search an architecture."""
OBJECTIVES = ("dice", "robust", "pareto")
"""What a search by trainings may look for; `architecture_search.rungs.RANKINGS` says how."""

Rungs = tuple[tuple[int, float], ...]
"""Of each rung: how many candidates are trained, and to which share (0 to 1) of a whole training."""

RUNGS: Rungs = ((15, 1 / 9), (9, 1 / 3), (4, 1.0))
"""The rungs of `halving` unless the user says more, chosen by simulation (`benchmarks.halving_rungs`): early rungs say
little about the end, so that fewer candidates begin, and more of them get there."""
_RANDOM = 8


@dataclass(frozen=True)
class Strategy:
    """How an architecture is searched, and what counts.

    Args:
        strategy: `bilevel` is the search of MS-NAS with a super-net. `halving` trains many candidates for a short time
            and the best of them to the end. `random` trains a few random candidates to the end.
        paths: For `bilevel`: the number of paths of each network that is decoded.
        objective: For the other two, what decides who goes on: `dice` on the selection cases, `robust` Dice under a
            short attack, or the Pareto front of Dice against multiply-adds (`pareto`).
        candidates: The number of candidates at the beginning. None takes as many as the rungs say for `halving`, and 8
            for `random`. Another number changes the numbers of all rungs in proportion.
        rungs: For `halving`: how many candidates are trained to which share of a whole training, rung by rung, each as
            a pair or as a text such as `27:1/9`. None takes `core.strategy.RUNGS`.

    Raises:
        UserError: A value is none of these, or there are too few candidates.

    Example:
        >>> Strategy("halving", rungs=("9:1/3", "2:1")).settled_rungs
        ((9, 0.3333333333333333), (2, 1.0))
    """

    strategy: str = "bilevel"
    paths: Sequence[int] = (3, 4, 5)
    objective: str = "dice"
    candidates: int | None = None
    rungs: Sequence[tuple[int, float] | str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", tuple(self.paths))
        for name, legal in (("strategy", STRATEGIES), ("objective", OBJECTIVES)):
            if getattr(self, name) not in legal:
                raise UserError(f"{name} must be one of {', '.join(legal)}, got {getattr(self, name)!r}")
        if self.rungs is not None:
            object.__setattr__(self, "rungs", read_rungs(self.rungs))
        least = 3 if self.strategy == "halving" else 1
        if self.candidates is not None and self.candidates < least:
            raise UserError(f"candidates must be at least {least} for {self.strategy}, got {self.candidates}")
        if self.rungs is not None and self.candidates is not None:
            raise UserError("rungs say how many candidates there are: give rungs or candidates, not both")
        self._refuse_unused()

    def _refuse_unused(self) -> None:
        given = {"candidates": self.candidates is not None, "objective": self.objective != "dice"}
        if self.strategy == "bilevel" and (unused := [name for name, used in given.items() if used]):
            raise UserError(f"the strategy bilevel does not use {' and '.join(unused)}: choose halving or random")
        if self.strategy != "halving" and self.rungs is not None:
            raise UserError(f"the strategy {self.strategy} does not use rungs: choose halving")

    @classmethod
    def of(cls, strategy: str | Strategy) -> Strategy:
        """Return what was given as `strategy`, which may be the name alone."""
        return strategy if isinstance(strategy, Strategy) else cls(strategy)

    @property
    def count(self) -> int:
        """The number of candidates at the beginning."""
        return self.settled_rungs[0][0]

    @property
    def settled_rungs(self) -> Rungs:
        """How many candidates are trained to which share of a whole training, rung by rung."""
        if self.strategy != "halving":
            return ((self.candidates or _RANDOM, 1.0),)
        if self.rungs is not None:
            return read_rungs(self.rungs)
        first = RUNGS[0][0]
        asked = self.candidates or first
        return tuple((-(-count * asked // first), share) for count, share in RUNGS)


def read_rungs(given: Sequence[tuple[int, float] | str]) -> Rungs:
    """Return rungs as pairs of numbers.

    Args:
        given: Each rung as a pair, or as a text such as `27:1/9`.

    Raises:
        UserError: They are no rungs: each must train no more candidates than the one before, to a larger share, and
            the last one to the end.
    """
    found = tuple(_rung(one) for one in given)
    counts, shares = [count for count, _ in found], [share for _, share in found]
    if not found or min(counts) < 1 or counts != sorted(counts, reverse=True) or counts[0] < 3:
        raise UserError(f"rungs must begin with at least 3 candidates, and not grow, got {counts}")
    if shares[-1] != 1.0 or shares[0] <= 0 or any(a >= b for a, b in pairwise(shares)):
        raise UserError(f"the shares of rungs must be above 0, grow, and end at 1, got {shares}")
    return found


def rung_text(count: int, share: float) -> str:
    """Return a rung as it is given, such as `27:1/9`."""
    return f"{count}:{Fraction(share).limit_denominator(1000)}"


def _rung(given: tuple[int, float] | str) -> tuple[int, float]:
    try:
        count, share = given.split(":") if isinstance(given, str) else given
        return int(str(count)), float(Fraction(share))  # no part of a candidate, such as 9.7, is trained
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise UserError(
            f"a rung must be a number of candidates and a share of a whole training, such as 27:1/9, got {given!r}"
        ) from error
