"""How long units of work will still take, from how long those took that this call has done."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

# Units that weigh up to so many times the lightest one are light, too.
_LIGHT = 2.0


@dataclass
class Pace:
    """Times of units, which have a part that is the same for each and a part that grows with what they compute.

    The first units are often the lightest ones, such as clean cases: nearly all of their time goes into reading files,
    preparing and judging. From them alone it cannot be said how long one takes that computes a hundred times as much,
    and then nothing is said. Multiplying their time by what the others weigh gives several times the truth.
    """

    _took: dict[Hashable, list[float]] = field(default_factory=dict)
    _points: list[tuple[float, float]] = field(default_factory=list)

    def note(self, kind: Hashable, weight: float, seconds: float) -> None:
        """Note a finished unit.

        Args:
            kind: What it has in common with units that take about as long.
            weight: How much it computed, in any unit.
            seconds: How long it took.
        """
        self._took.setdefault(kind, []).append(seconds)
        self._points.append((weight, seconds))

    def left(
        self, waiting: Mapping[Hashable, tuple[int, float]], running: Sequence[tuple[float, float, float]]
    ) -> float | None:
        """Return the seconds that units will still take, one after the other; None where that cannot be said yet.

        Args:
            waiting: Of each kind of unit that has not begun, how many there are and what they weigh together.
            running: The weight of each unit that runs, the seconds that it has run, and which share of it is done.
        """
        partly = [(weight * share, seconds) for weight, seconds, share in running if share > 0]
        fit = self._fit(partly)
        found = [self._of_kind(kind, count, weight, fit) for kind, (count, weight) in waiting.items()]
        found += [_rest(*one, fit) for one in running]
        known = [one for one in found if one is not None]
        return math.fsum(known) if len(known) == len(found) else None

    def _fit(self, partly: list[tuple[float, float]]) -> _Fit | None:
        """The time of the lightest units, and how much a heavier one takes for what it weighs more."""
        points = self._points
        if not points and not partly:
            return None
        least = min(weight for weight, _ in points) if points else 0.0
        base = statistics.median(s for weight, s in points if weight <= _LIGHT * least) if points else 0.0
        heavy = [one for one in points if one[0] > _LIGHT * least] or [one for one in partly if one[0] > least]
        more = sum(weight - least for weight, _ in heavy)
        return _Fit(least, base, sum(max(0.0, s - base) for _, s in heavy) / more if more else None)

    def _of_kind(self, kind: Hashable, count: int, weight: float, fit: _Fit | None) -> float | None:
        if took := self._took.get(kind):
            return count * sum(took) / len(took)
        one = None if fit is None else fit.seconds(weight / max(count, 1))
        return None if one is None else count * one


@dataclass(frozen=True)
class _Fit:
    """The time of a unit that weighs `least`, and the seconds for each weight above; None where that is not known."""

    least: float
    base: float
    rate: float | None

    def seconds(self, weight: float) -> float | None:
        if weight <= _LIGHT * self.least:
            return self.base
        return None if self.rate is None else self.base + self.rate * (weight - self.least)


def _rest(weight: float, seconds: float, share: float, fit: _Fit | None) -> float | None:
    """What is left of a unit that runs: as long for the rest as it took so far, or what it is expected to take.

    One that takes longer than that is expected to take a tenth of its time more.
    """
    if share > 0:
        return seconds * (1 - share) / share
    whole = None if fit is None else fit.seconds(weight)
    return None if whole is None else max(whole - seconds, seconds / 10)
