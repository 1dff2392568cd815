"""How units of work are done: one after the other in this process, while other processes may share the same folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from voxward.core.claim import claim
from voxward.core.progress import Progress, silent

U = TypeVar("U")
U_contra = TypeVar("U_contra", contravariant=True)


@runtime_checkable
class Work(Protocol[U_contra]):
    """What is done with a unit, and how anybody can see that it is done.

    A unit is a small value that can be pickled. Its results are files, and doing it twice must be harmless.
    """

    def key(self, unit: U_contra, /) -> str:
        """Return a text that stands for this unit only."""
        ...

    def finished(self, unit: U_contra, /) -> bool:
        """Return whether the unit's results are there."""
        ...

    def run(self, unit: U_contra, /) -> None:
        """Do the unit and write its results."""
        ...


@runtime_checkable
class Engine(Protocol):
    """What does units of work."""

    def run(self, units: Sequence[U], work: Work[U], stage: str, progress: Progress = silent) -> None:
        """Do every unit that is not finished, and return when all are, whoever did them.

        Args:
            units: The units; those whose results are there are left alone.
            work: What is done with a unit.
            stage: The name that progress is reported under.
            progress: Told how many units are finished.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """The engine that does one unit after the other in this process.

    Any number of processes, also of several machines that share a file system, may work on the same folder: each claims
    the unit that it works on, and takes over what a dead process has left.

    Attributes:
        folder: The folder that the processes share; claims lie in its subfolder `claims`.
        expires: The seconds after which the claim of a process that does not move is taken over.
        pause: The seconds between two looks at units that others work on.
    """

    folder: Path
    expires: float = 300.0
    pause: float = 2.0

    def run(self, units: Sequence[U], work: Work[U], stage: str, progress: Progress = silent) -> None:
        """Do every unit that is not finished; see Engine.

        An error ends the work, and the unit is free again for another process.
        """
        waiting = [unit for unit in units if not work.finished(unit)]
        while waiting:
            left: list[U] = []
            for place, unit in enumerate(waiting):
                progress(stage, len(units) - len(left) - len(waiting) + place, len(units))
                if not self._finish(unit, work):
                    left.append(unit)
            if len(left) == len(waiting):
                time.sleep(self.pause)
            waiting = left
        progress(stage, len(units), len(units))

    def _finish(self, unit: U, work: Work[U]) -> bool:
        """Whether the unit is finished, by us or by another process; False while another one works on it."""
        if work.finished(unit):
            return True
        with claim(self.claim_path(work.key(unit)), self.expires) as ours:
            if not ours:
                return False
            if not work.finished(unit):
                work.run(unit)
        return True

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait until no other process holds the turn of this name, and hold it inside the block."""
        while True:
            with claim(self.claim_path(name), self.expires) as ours:
                if ours:
                    yield
                    return
            time.sleep(self.pause)

    def claim_path(self, name: str) -> Path:
        """Return the file that claims the work of this name."""
        return self.folder / "claims" / hashlib.sha256(name.encode()).hexdigest()[:32]
