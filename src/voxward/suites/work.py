"""The work of a suite as units on an engine: what is finished, what waits for a failed unit, and what is noted."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

from voxward.core.errors import UserError
from voxward.core.interrupt import Interrupted
from voxward.core.progress import Progress
from voxward.engine.course import Course
from voxward.engine.engine import Doer, Engine, Unfit
from voxward.suites.notes import DONE, FAILED, Note, Notes, finished
from voxward.suites.plan import ATTACK, TRAIN, SuitePlan, Unit

_GUESSED_MINUTES = {TRAIN: 60.0, ATTACK: 10.0}
"""How long a stage is taken to last where it has no time budget, for the share of the work that is told."""


@dataclass(frozen=True, eq=False)
class SuiteWork:
    """The units of a suite; implements engine.Work.

    Attributes:
        plan: The suite.
        doer: What does a unit.
        failed_now: The units that failed in this call, with the reason; they are not tried twice in one call.
    """

    plan: SuitePlan
    doer: Doer[Unit, Note]
    failed_now: dict[Unit, str] = field(default_factory=dict)

    @property
    def notes(self) -> Notes:
        """The notes of the units."""
        return Notes(self.plan.root)

    def run(self, engine: Engine, progress: Progress) -> None:
        """Do all units, round by round; one that fails stops those only that need its results.

        Args:
            engine: What runs the units.
            progress: Told how far the suite is.
        """
        course = Course[Unit]("suite", progress, _told, self._weight, kind=lambda unit: (unit.system, unit.stage))
        for units in self.plan.rounds:
            course.plan(self.plan.units, self)
            engine.run(self._possible(units), self, course)
        course.close()

    def key(self, unit: Unit) -> str:
        """Return a text that stands for this unit only."""
        return f"{unit.task}/{unit.system}/{unit.stage}"

    def group(self, unit: Unit) -> str:
        """Return the unit itself: units have nothing in common that a process could keep."""
        return self.key(unit)

    def finished(self, unit: Unit) -> bool:
        """Return whether a unit is done, or has failed in this call."""
        return unit in self.failed_now or finished(self.plan, unit)

    def accept(self, unit: Unit, result: Note) -> None:
        """Write that a unit is done. Where it was done again, what was made from its earlier result is done no more."""
        for later in self.plan.from_it(unit):
            self.notes.forget(later)
        self.notes.write(unit, result)

    def failed(self, unit: Unit, error: Exception) -> None:
        """Note that a unit failed, and go on; an interruption, or a process that cannot do any unit, stops the rest."""
        if isinstance(error, Interrupted | Unfit):
            raise error
        reason = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, UserError | OSError | FloatingPointError | MemoryError):
            # Nobody sees a traceback of a long suite, and without one a bug is not found.
            reason = f"{type(error).__name__}: {reason} (at {_place(error)})"
        self._fail(unit, reason)

    def _possible(self, units: Sequence[Unit]) -> tuple[Unit, ...]:
        """Those units whose results of earlier rounds are there; the others have failed."""
        for unit in units:
            lacking = [one for one in self.plan.needs(unit) if not finished(self.plan, one)]
            if lacking:
                why = self.failed_now.get(lacking[0], "it was not done")
                cause = why if lacking[0].system == unit.system else f"{lacking[0].system}, which it hardens: {why}"
                self._fail(unit, cause, tell=False)
        return tuple(unit for unit in units if unit not in self.failed_now)

    def _fail(self, unit: Unit, reason: str, tell: bool = True) -> None:
        self.failed_now[unit] = reason
        self.notes.write(unit, Note(FAILED, reason=reason))
        if tell:
            warnings.warn(f"{_told(unit)} failed, and the rest goes on: {reason}", stacklevel=2)

    def _weight(self, unit: Unit) -> float:
        system = self.plan.system(unit)
        minutes = {TRAIN: system.minutes, ATTACK: system.attack_minutes}
        return minutes.get(unit.stage) or _GUESSED_MINUTES.get(unit.stage, 1.0)


def done(seconds: float, remark: str = "") -> Note:
    """Return the note of a unit that is done.

    Args:
        seconds: How long it took.
        remark: What must be known of its figures; empty: nothing.
    """
    return Note(DONE, seconds, remark=remark)


def _told(unit: Unit) -> str:
    return f"{unit.task}, {unit.system}: {unit.stage}"


def _place(error: Exception) -> str:
    """Where in the code an error arose."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
