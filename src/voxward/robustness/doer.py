"""What does the units of a benchmark, in this process or in another one, perhaps on another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import voxward
from voxward.core.errors import UserError
from voxward.core.progress import Progress
from voxward.core.structure import to_data
from voxward.data.content import digest_of
from voxward.engine.engine import Unfit
from voxward.robustness.bench import Bench, Source, Worker
from voxward.robustness.record import Record
from voxward.robustness.setup import identity_of
from voxward.robustness.skipped import NotApplicable
from voxward.robustness.unit import Unit
from voxward.systems.system import System


@dataclass(frozen=True)
class Done:
    """The result of a unit.

    Attributes:
        records: What was measured.
        skipped: Why the unit means nothing on its case; empty where it does.
    """

    records: tuple[Record, ...]
    skipped: str = ""


class BenchDoer:
    """Does the units of a bench; implements engine.Doer.

    In another process the systems are opened again, from their paths, and it is checked that they, and the files of
    the cases, are the same there.

    Args:
        worker: What does the units in this process.
        settings: What must be the same wherever a unit is done, from `setup.settings_of`.
    """

    def __init__(self, worker: Worker, settings: Mapping[str, Any]) -> None:
        self.worker, self.settings = worker, to_data(settings)
        self._elsewhere, self._compared = False, set[tuple[str, str]]()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: neither open systems nor the last case."""
        return {"bench": absolute(self.worker.bench), "settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` returned in another process."""
        self.worker, self.settings = Worker(state["bench"]), state["settings"]
        self._elsewhere, self._compared = True, set[tuple[str, str]]()

    def do(self, unit: Unit, folder: Path, progress: Progress) -> Done:
        """Do a unit; the volumes and segmentations that it keeps go below the folder.

        Raises:
            Unfit: This process does not see the same systems and cases.
            UserError: The system cannot be run on the case.
        """
        if self._elsewhere:
            self._compare(unit)
        self.worker.write_into(folder)
        try:
            return Done(self.worker.work(unit, progress))
        except NotApplicable as reason:
            return Done((), str(reason))

    def _compare(self, unit: Unit) -> None:
        """Refuse what would be measured on other things than the caller means, and be filed under their names."""
        bench = self.worker.bench
        if voxward.__version__ != bench.version:
            raise Unfit(f"voxward is {voxward.__version__} here, and {bench.version} where the work was started")
        if ("system", unit.model) not in self._compared:
            self._compare_system(bench.sources[unit.model], lambda: self.worker.system(unit.model), unit.model)
        if bench.surrogate is not None and ("surrogate", "") not in self._compared:
            self._compare_system(bench.surrogate, self.worker.other)
        if ("case", unit.case) not in self._compared:
            self._compare_case(unit.case)
        self._compared |= {("system", unit.model), ("surrogate", ""), ("case", unit.case)}

    def _compare_system(self, source: Source, opened: Callable[[], System], model: str | None = None) -> None:
        """Compare a system of the bench, or its surrogate."""
        try:
            found = identity_of(opened())
        except (OSError, UserError) as error:
            raise Unfit(f"{source.system} cannot be opened here: {error}") from error
        expected = self.settings["surrogate"] if model is None else self.settings["systems"][model]
        if to_data(found) != expected:
            raise Unfit(f"{source.system} is another system here than where the work was started")

    def _compare_case(self, id: str) -> None:
        case = self.worker.bench.cases[id]
        files = [*case.images, *filter(None, [case.label])]
        try:
            found = digest_of(files)
        except OSError as error:
            raise Unfit(f"the files of case {id} cannot be read here: {error}") from error
        if found != self.settings["cases"][id]:
            raise Unfit(f"the files of case {id} ({files[0]}, ...) are others here than where the work was started")


def absolute(bench: Bench) -> Bench:
    """Return the same bench with the paths of its systems absolute, which a process in another folder understands."""
    sources = {name: _absolute(source) for name, source in bench.sources.items()}
    return replace(bench, sources=sources, surrogate=None if bench.surrogate is None else _absolute(bench.surrogate))


def _absolute(source: Source) -> Source:
    if not isinstance(source.system, str) or not Path(source.system).exists():
        return source
    return replace(source, system=str(Path(source.system).absolute()))
