"""Where records lie: one file per unit of work, so that any number of processes share a folder and none repeats."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxward.core.case import Case
from voxward.core.document import with_checksum, without_format
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.files import write_json
from voxward.core.reading import read_json
from voxward.core.structure import from_data, to_data
from voxward.engine.engine import Doer
from voxward.robustness.doer import Done
from voxward.robustness.record import EQUAL_NOISE, Record
from voxward.robustness.skipped import Skipped
from voxward.robustness.unit import Unit, safe_name


@dataclass(frozen=True)
class RecordStore:
    """The records of a benchmark, in the subfolder `records` of a folder.

    Attributes:
        folder: The folder.
    """

    folder: Path

    def path(self, unit: Unit) -> Path:
        """Return the unit's file."""
        return self.folder / "records" / unit.place

    def has(self, unit: Unit) -> bool:
        """Return whether the unit is finished."""
        return self.path(unit).is_file()

    def count(self) -> int:
        """Return how many units are finished."""
        return len(self._files())

    def write(self, unit: Unit, records: Sequence[Record]) -> None:
        """Write a finished unit.

        Raises:
            UserError: A record is of another model or case.
        """
        for record in records:
            if record.case_key != (unit.model, unit.case):
                raise UserError(f"a unit of {(unit.model, unit.case)} cannot hold a record of {record.case_key}")
        write_json(self.path(unit), with_checksum({"records": [record.to_data() for record in records]}))

    def skip(self, unit: Unit, reason: str) -> None:
        """Note that a unit means nothing on its case; it is then finished, without a record."""
        skipped = Skipped(unit.model, unit.case, unit.attack, unit.eps, reason)
        write_json(self.path(unit), with_checksum({"records": [], "skipped": to_data(skipped)}))

    def skipped(self, trials: Collection[str] = EQUAL_NOISE) -> tuple[Skipped, ...]:
        """Return which units were left out, because they mean nothing on their case, ordered like the records.

        Args:
            trials: The trials that may be left out on a case. A folder may hold thousands of files of others.

        Raises:
            UserError: A file is damaged; the message names it.
        """
        names = map(safe_name, trials)
        places = [path for name in names for path in (self.folder / "records").glob(f"*/{name}/*/*.json")]
        found = [(p, _content(p).get("skipped")) for p in sorted(places) if not p.name.startswith(".")]
        read = [from_data(Skipped, entry, str(path)) for path, entry in found if entry is not None]
        return tuple(sorted(read, key=lambda s: (s.model, s.attack, s.case, s.eps or 0.0)))

    def of_case(self, model: str, case: str) -> tuple[Record, ...]:
        """Return the records of one case of a model that are there already."""
        files = (self.folder / "records" / safe_name(model)).glob(f"*/{glob.escape(safe_name(case))}/*.json")
        return tuple(record for path in sorted(files) if not path.name.startswith(".") for record in _sound(path))

    def of_unit(self, unit: Unit) -> tuple[Record, ...]:
        """Return the records of a finished unit.

        Raises:
            UserError: The file is damaged; the message names it.
        """
        return tuple(_sound(self.path(unit)))

    def drop(self, unit: Unit) -> None:
        """Remove the results of a unit, which then is not finished any more."""
        self.path(unit).unlink(missing_ok=True)

    def read_all(self) -> tuple[Record, ...]:
        """Return all records, ordered by model, attack, case, eps and seed.

        Raises:
            UserError: A file is damaged; the message names it.
        """
        return _ordered([record for path in self._files() for record in _sound(path)])

    def read_each(self) -> tuple[tuple[Record, ...], tuple[str, ...]]:
        """Return all records that can be read, in the order of `read_all`, and a sentence for each damaged file."""
        records, faults = list[Record](), list[str]()
        for path in self._files(lambda error: faults.append(f"{error.filename}: {error.strerror}")):
            try:
                records += _read(path)
            except (UserError, OSError) as error:
                faults.append(str(error))
        return _ordered(records), tuple(faults)

    def _files(self, unreadable: Callable[[OSError], None] | None = None) -> list[Path]:
        """The files of finished units; a dot marks what a killed process left unfinished.

        A folder that may not be listed is told to `unreadable`, as its results would be missing in silence.
        """
        folders = os.walk(self.folder / "records", onerror=unreadable)
        found = (Path(folder, name) for folder, _, names in folders for name in names)
        return sorted(path for path in found if path.suffix == ".json" and not path.name.startswith("."))


@dataclass(frozen=True, eq=False)
class StoredWork:
    """Units whose results are records in a store; implements engine.Work.

    Attributes:
        store: Where the records lie.
        doer: What makes the records of a unit.
        cases: The cases, by their ids.
        failures: Gets the cases that fail; no further unit of such a case is done. None: the first failure is raised.
        found: Called with a unit and its records, before they are written.
        after: Called with a unit whose records have been written.
    """

    store: RecordStore
    doer: Doer[Unit, Done]
    cases: Mapping[str, Case] = field(default_factory=dict)
    failures: Failures | None = None
    found: Callable[[Unit, Sequence[Record]], None] | None = None
    after: Callable[[Unit], None] | None = None

    def key(self, unit: Unit) -> str:
        """Return the unit's place."""
        return unit.place.as_posix()

    def group(self, unit: Unit) -> tuple[str, str]:
        """Return system and case: opening the one and preparing the other takes time."""
        return unit.model, unit.case

    def finished(self, unit: Unit) -> bool:
        """Return whether the unit's file is there, or its case has failed."""
        return self.store.has(unit) or (self.failures is not None and unit.case in self.failures.cases)

    def accept(self, unit: Unit, result: Done) -> None:
        """Write the unit's records."""
        if result.skipped:
            self.store.skip(unit, result.skipped)
            return
        if self.found is not None:
            self.found(unit, result.records)
        self.store.write(unit, result.records)
        if self.after is not None:
            self.after(unit)

    def failed(self, unit: Unit, error: Exception) -> None:
        """Note that the unit's case failed, if the error is the case's own."""
        if self.failures is None:
            raise error
        with self.failures.of(self.cases[unit.case]):
            raise error


def _content(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if isinstance(data, dict):
        content: dict[str, Any] = without_format(data, str(path))
        return content
    return {"records": data}  # version 0.1 wrote the list alone


def _ordered(records: Sequence[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda r: (r.model, r.attack, r.case, r.eps, r.seed)))


def _sound(path: Path) -> list[Record]:
    try:
        return _read(path)
    except UserError as error:
        raise UserError(f"{error}. If the file is damaged, delete it and give the same command again") from error


def _read(path: Path) -> list[Record]:
    content = _content(path)
    entries = content.get("records")
    if not isinstance(entries, list):
        raise UserError(f"{path} must hold a list of records, got {type(entries).__name__}")
    if not entries and "skipped" not in content:
        raise UserError(f"{path} holds no record")
    return [Record.from_data(entry, f"{path} [{place}]") for place, entry in enumerate(entries)]
