"""How units of work are done: one after the other in this process, or on the workers of a cluster (`engine.dask`)."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from voxward.core.errors import UserError
from voxward.core.interrupt import Interrupted, stop_on_signal
from voxward.core.progress import Progress

U = TypeVar("U")
R = TypeVar("R")
U_contra = TypeVar("U_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Unfit(UserError):  # noqa: N818 - it says what is the case
    """A process cannot do units: it has another version of voxward, or does not see the files; others may."""


@runtime_checkable
class Doer(Protocol[U_contra, R_co]):
    """What does a unit, in any process of any machine; it can be pickled.

    It may keep what is slow to make, such as an open system or the last case, from one unit to the next. Doing a unit
    twice must be harmless.
    """

    def do(self, unit: U_contra, folder: Path, progress: Progress, /) -> R_co:
        """Do a unit and return its result, a value that can be pickled.

        Args:
            unit: The unit.
            folder: Where files go that belong to the result: the folder of the whole work, or one that takes its place
                and is brought there later. It holds nothing else that a unit needs.
            progress: Told about the steps within the unit.

        Raises:
            Unfit: This process cannot do any unit.
        """
        ...


@runtime_checkable
class Work(Protocol[U_contra, R]):
    """Units of work, what does them, and what becomes of their results; it stays in the process that was called.

    A unit is a small value that can be pickled.
    """

    @property
    def doer(self) -> Doer[U_contra, R]:
        """Return what does a unit."""
        ...

    def key(self, unit: U_contra, /) -> str:
        """Return a text that stands for this unit only."""
        ...

    def group(self, unit: U_contra, /) -> Hashable:
        """Return what units have in common that one process had better do, such as their case and system."""
        ...

    def finished(self, unit: U_contra, /) -> bool:
        """Return whether the results of a unit are there, or it is not to be done any more."""
        ...

    def accept(self, unit: U_contra, result: R, /) -> None:
        """Write the result of a unit; writing it twice must be harmless."""
        ...

    def failed(self, unit: U_contra, error: Exception, /) -> None:
        """Note that a unit failed, or raise the error where the others cannot go on."""
        ...


@runtime_checkable
class Watch(Protocol[U_contra]):
    """Who is told which units run, and how far each of them is."""

    def begin(self, unit: U_contra, /) -> None:
        """A unit begins."""

    def told(self, unit: U_contra, stage: str, done: int, total: int | None, figures: dict[str, Any], /) -> None:
        """A step within a unit is done; see `core.progress.Progress`."""

    def end(self, unit: U_contra, /) -> None:
        """A unit runs no longer; whether it is finished, its work says."""


@runtime_checkable
class Engine(Protocol):
    """A way to do many units of work, such as one after the other in this process."""

    def run(self, units: Sequence[U], work: Work[U, Any], watch: Watch[U]) -> None:
        """Do every unit that is not finished, and return when all are.

        Args:
            units: The units; those whose results are there are left alone.
            work: The work on a unit.
            watch: Told about each unit.

        Raises:
            Interrupted: A signal asked to stop; the units that ran were finished and kept.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """The engine that does one unit after the other in this process.

    Attributes:
        folder: The folder of the whole work.
    """

    folder: Path

    def run(self, units: Sequence[U], work: Work[U, Any], watch: Watch[U]) -> None:
        """Do every unit that is not finished, one after the other; see `Engine.run`."""
        with stop_on_signal(_say_that_one_is_finished) as stop:
            for unit in units:
                if work.finished(unit):
                    continue
                if not stop():
                    self._do(unit, work, watch)
            if stop():  # also during the last unit: more rounds may follow
                raise Interrupted("what was finished is kept; give the same command again to go on")

    def _do(self, unit: U, work: Work[U, Any], watch: Watch[U]) -> None:
        def told(stage: str, done: int, total: int | None, /, **figures: float | str) -> None:
            watch.told(unit, stage, done, total, figures)

        watch.begin(unit)
        try:
            result = work.doer.do(unit, self.folder, told)
        except Exception as error:
            work.failed(unit, error)
        else:
            work.accept(unit, result)
        finally:
            watch.end(unit)


def _say_that_one_is_finished() -> None:
    warnings.warn(
        "what runs now is finished first; a second Ctrl-C or signal stops at once, and it is lost", stacklevel=2
    )
