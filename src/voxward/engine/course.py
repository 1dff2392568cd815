"""How far many units of work are: what runs now, and which share of the expected time is over."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from voxward.core.progress import BEFORE, RUNNING, SECONDS_LEFT, SHARE, Progress
from voxward.core.wording import counted
from voxward.engine.engine import Engine, Work
from voxward.engine.pace import Pace

U = TypeVar("U")


class Course(Generic[U]):
    """Reports on units that may be done in several rounds, by several processes, and in several calls.

    It implements `engine.Watch`.

    Args:
        stage: The name that progress is reported under.
        progress: What the reports go to.
        name: Returns what is worked on while a unit runs, in words.
        weight: Returns how long a unit is expected to take, in any unit of time.
        inner: The stage within a unit whose steps say how much of the unit is done; None: any.
        kind: Returns what units have in common that take about as long as each other; None: nothing.
        clock: Returns the time in seconds, from which it is told how long all units still take; None: whoever shows the
            reports tells it from the share that is done.

    Attributes:
        figures: Figures that every report holds; whoever does the work may change them.
    """

    def __init__(
        self, stage: str, progress: Progress, name: Callable[[U], str], weight: Callable[[U], float],
        inner: str | None = None, kind: Callable[[U], Hashable] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self.stage, self.progress, self.figures = stage, progress, dict[str, float | str]()
        self._name, self._weight, self._inner, self._kind = name, weight, inner, kind or repr
        self._clock, self._pace, self._began = clock, Pace(), dict[str, float]()
        # Of each kind of unit that has not begun, how many there are and what they weigh together.
        self._waiting = dict[Hashable, tuple[int, float]]()
        self._weights: dict[str, float] = {}
        self._planned = False
        # What units took, by their keys, and which units are of one kind.
        self._took, self._alike = dict[str, float](), defaultdict[Hashable, list[str]](list)
        self._done, self._before = set[str](), set[str]()
        self._whole, self._earlier, self._over = 1.0, 0.0, 0.0
        # How much of each unit that runs is done, by its key, in the order in which they began.
        self._running = dict[str, float]()
        self._names = dict[str, str]()
        self._work: Work[U, Any] | None = None

    def plan(self, units: Sequence[U], work: Work[U, Any]) -> None:
        """Say which units there are in all, also those that are finished already.

        A later plan replaces the earlier one, for example where a case has failed and its units are left out.

        Args:
            units: The units of all rounds.
            work: What says whether a unit is finished.
        """
        self._alike.clear()
        self._work = work
        for unit in units:
            self._alike[self._kind(unit)].append(work.key(unit))
        self._weights = {work.key(unit): self._weight(unit) for unit in units}
        self._done = {work.key(unit) for unit in units if work.finished(unit)}
        self._before = self._before & self._weights.keys() if self._planned else set(self._done)
        self._planned = True
        for keys in self._alike.values():
            self._learn(keys)
        self._add_up()

    def took(self, key: str, unit: U, weight: float) -> None:
        """Say how long a unit really took; others of its kind are then expected to take as long.

        Args:
            key: The key of the unit.
            unit: The unit.
            weight: How long it took, in the unit of time in which units are expected to take long.
        """
        self._took[key] = weight
        self._learn(self._alike[self._kind(unit)])
        self._add_up()

    def _learn(self, keys: Sequence[str]) -> None:
        """Expect of units of one kind what the finished ones among them took."""
        known = [self._took[key] for key in keys if key in self._took]
        for key in keys if known else ():
            if key in self._took or key not in self._done:
                self._weights[key] = self._took.get(key, sum(known) / len(known))

    def _add_up(self) -> None:
        self._whole = sum(self._weights.values()) or 1.0
        self._over = sum(self._weights[key] for key in self._done)
        self._earlier = sum(self._weights[key] for key in self._before)
        self._count_waiting()

    def _count_waiting(self) -> None:
        begun = self._done | self._running.keys()
        waiting = {kind: [self._weights[key] for key in keys if key not in begun] for kind, keys in self._alike.items()}
        self._waiting = {kind: (len(weights), sum(weights)) for kind, weights in waiting.items() if weights}

    def run(self, units: Sequence[U], work: Work[U, Any], engine: Engine) -> None:
        """Do all units in one round.

        Args:
            units: The units.
            work: The work on a unit.
            engine: What runs the units.
        """
        self.plan(units, work)
        engine.run(units, work, self)
        self.close()

    def begin(self, unit: U) -> None:
        """Report that a unit begins."""
        key = self._key(unit)
        self._running[key], self._names[key] = 0.0, self._name(unit)
        self._began[key] = self._now()
        self._count_waiting()
        self._report()

    def told(self, unit: U, stage: str, done: int, total: int | None, figures: dict[str, Any]) -> None:
        """Report a step within a unit; the step itself is passed on where one unit runs at a time."""
        key = self._key(unit)
        if total and key in self._running and (self._inner is None or stage == self._inner):
            self._running[key] = max(self._running[key], min(1.0, done / total))
            self._report()
        if len(self._running) == 1:
            self.progress(stage, done, total, **figures)

    def end(self, unit: U) -> None:
        """Note that a unit runs no longer; it is done where its work says so."""
        key = self._key(unit)
        self._running.pop(key, None)
        if self._work is not None and self._work.finished(unit):
            self._note(key)
            self._pace.note(self._kind(unit), self._weights.get(key, 0.0), self._now() - self._began[key])

    def _now(self) -> float:
        return 0.0 if self._clock is None else self._clock()

    def _seconds_left(self) -> float:
        """How long all units still take, where as many run at once as now; not a number where that is unknown."""
        now = self._now()
        running = [(self._weights.get(key, 0.0), now - self._began[key], done) for key, done in self._running.items()]
        left = self._pace.left(self._waiting, running)
        return math.nan if left is None else left / max(1, len(running))

    def close(self) -> None:
        """Report that all units are finished."""
        for key in self._weights:
            self._note(key)
        self._report()

    def _key(self, unit: U) -> str:
        assert self._work is not None, "plan comes first"
        return self._work.key(unit)

    def _note(self, key: str) -> None:
        if key in self._weights and key not in self._done:
            self._done.add(key)
            self._over += self._weights[key]

    def _report(self) -> None:
        weights, figures = self._weights, dict[str, float | str]()
        over = self._over + sum(weights.get(key, 0.0) * done for key, done in self._running.items())
        if self._running:
            first, more = self._names[next(iter(self._running))], len(self._running) - 1
            figures[RUNNING] = first + (f", and {counted(more, 'other')}" if more else "")
        if self._clock is not None:
            figures[SECONDS_LEFT] = self._seconds_left()
        figures |= {SHARE: over / self._whole, BEFORE: self._earlier / self._whole}
        self.progress(self.stage, len(self._done), len(weights), **figures, **self.figures)
