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
    """The work on a unit, and how any process can see that the unit is finished.

    A unit is a small value that can be pickled. Its results are files, and doing it twice must be harmless.
    """

    def key(self, unit: U_contra, /) -> str:
        """Return a text that stands for this unit only.

        Args:
            unit: The unit.
        """
        ...

    def finished(self, unit: U_contra, /) -> bool:
        """Return whether the results of a unit are there.

        Args:
            unit: The unit.
        """
        ...

    def run(self, unit: U_contra, /) -> None:
        """Do a unit and write its results.

        Args:
            unit: The unit.
        """
        ...


@runtime_checkable
class Engine(Protocol):
    """A way to do many units of work, such as one after the other in this process."""

    def run(self, units: Sequence[U], work: Work[U], stage: str, progress: Progress = silent) -> None:
        """Do every unit that is not finished, and return when all are, whichever process did them.

        Args:
            units: The units; those whose results are there are left alone.
            work: The work on a unit.
            stage: The name that progress is reported under.
            progress: Called with the number of finished units and their number in all.
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
        """Do every unit that is not finished, one after the other, and wait for the units of other processes.

        An error ends the work, and the unit is free again for another process.

        Args:
            units: The units; those whose results are there are left alone.
            work: The work on a unit.
            stage: The name that progress is reported under.
            progress: Called with the number of finished units and their number in all.
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
        """Return whether the unit is finished, by this process or another; False while another process works on it."""
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
        """Wait until no other process holds the turn of a name, and hold it inside the block.

        Args:
            name: The name of the turn, such as the file that the block writes.
        """
        while True:
            with claim(self.claim_path(name), self.expires) as ours:
                if ours:
                    yield
                    return
            time.sleep(self.pause)

    def claim_path(self, name: str) -> Path:
        """Return the file that claims the work of a name.

        Args:
            name: The key of a unit, or the name of a turn.
        """
        return self.folder / "claims" / hashlib.sha256(name.encode()).hexdigest()[:32]
