"""Where records lie: one file per unit of work, so that any number of processes share a folder and none repeats."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from voxward.core.claim import claim
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.progress import Progress, silent
from voxward.core.reading import read_json
from voxward.core.structure import to_data
from voxward.robustness.record import Record

# File systems allow 255 bytes in a name; atomic_write puts some in front.
_LONGEST = 150
_MISSING = "nothing"


@dataclass(frozen=True)
class Unit:
    """What is run and written as a whole; `eps` is None for an attack that finds its own (one unit for all)."""

    model: str
    attack: str
    case: str
    eps: float | None
    seed: int

    @property
    def place(self) -> Path:
        """MODEL/ATTACK/CASE/EPS-SEED.json; different units have different places."""
        eps = "any" if self.eps is None else repr(float(self.eps))
        return Path(*map(safe_name, (self.model, self.attack, self.case)), f"eps{eps}-seed{self.seed}.json")


@dataclass(frozen=True)
class RecordStore:
    """The records of a benchmark under `folder`.

    expires: seconds after which the claim of a process that no longer moves is taken over. pause: seconds between two
    looks at what others still work on.
    """

    folder: Path
    expires: float = 300.0
    pause: float = 2.0

    def path(self, unit: Unit) -> Path:
        """The unit's file."""
        return self.folder / "records" / unit.place

    def has(self, unit: Unit) -> bool:
        """Whether the unit is finished."""
        return self.path(unit).is_file()

    def write(self, unit: Unit, records: Sequence[Record]) -> None:
        """Write a finished unit. Raises ValueError for a record of another model or case."""
        for record in records:
            if record.case_key != (unit.model, unit.case):
                raise UserError(f"a unit of {(unit.model, unit.case)} cannot hold a record of {record.case_key}")
        write_json(self.path(unit), [record.to_data() for record in records])

    def read_all(self) -> tuple[Record, ...]:
        """All records, ordered by model, attack, case, eps and seed. Raises ValueError naming a damaged file."""
        # A dot marks what a killed process left unfinished.
        files = (path for path in (self.folder / "records").rglob("*.json") if not path.name.startswith("."))
        records = [record for path in sorted(files) for record in _read(path)]
        return tuple(sorted(records, key=lambda r: (r.model, r.attack, r.case, r.eps, r.seed)))

    def work(self, units: Sequence[Unit], run: Callable[[Unit], Sequence[Record]], progress: Progress = silent) -> None:
        """Run and write every unit that is not finished; return when all are, whoever ran them.

        Units that another process has claimed are looked at again at the end. An error of `run` ends the work and
        frees the unit.
        """
        waiting = [unit for unit in units if not self.has(unit)]
        while waiting:
            left: list[Unit] = []
            for place, unit in enumerate(waiting):
                progress("benchmark", len(units) - len(left) - len(waiting) + place, len(units))
                if not self._finish(unit, run):
                    left.append(unit)
            if len(left) == len(waiting):
                time.sleep(self.pause)
            waiting = left
        progress("benchmark", len(units), len(units))

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Write the settings once; later calls must have the same.

        Raises ValueError naming the keys that differ (dotted where nested): records of different settings do not mix.
        """
        path = self.folder / "settings.json"
        wanted = json.loads(json.dumps(to_data(settings), allow_nan=False))
        while not path.is_file():
            with claim(self._claim("settings"), self.expires) as ours:
                if ours and not path.is_file():
                    write_json(path, wanted)
            if not path.is_file():
                time.sleep(min(self.pause, 0.1))
        found, asked = _flat(read_json(path)), _flat(wanted)
        keys = [key for key in sorted({*found, *asked}) if found.get(key, _MISSING) != asked.get(key, _MISSING)]
        if keys:
            listed = "; ".join(f"{key}: {asked.get(key, _MISSING)}, was {found.get(key, _MISSING)}" for key in keys)
            raise UserError(f"{self.folder} holds records of other settings ({listed}): use another --out")

    def _finish(self, unit: Unit, run: Callable[[Unit], Sequence[Record]]) -> bool:
        """Whether the unit is finished, by us or by another; False while another works on it."""
        if self.has(unit):
            return True
        with claim(self._claim(unit.place.as_posix()), self.expires) as ours:
            if not ours:
                return False
            if not self.has(unit):
                self.write(unit, run(unit))
        return True

    def _claim(self, name: str) -> Path:
        return self.folder / "claims" / hashlib.sha256(name.encode()).hexdigest()[:32]


def safe_name(name: str) -> str:
    """A file name that stands for this name only: percent-encoded, or a hash behind its start where too long.

    Raises ValueError for an empty name.
    """
    if not name:
        raise UserError("a model, attack or case needs a name, got ''")
    encoded = quote(name, safe=" +=@,()").replace("~", "%7E")
    if encoded.startswith("."):  # hidden, or a folder above
        encoded = "%2E" + encoded[1:]
    if len(encoded) > _LONGEST:
        # No shorter name holds '~'.
        return f"{encoded[:80]}~~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return encoded


def _read(path: Path) -> list[Record]:
    entries = read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path} must hold a list of records, got {type(entries).__name__}")
    return [Record.from_data(entry, f"{path} [{place}]") for place, entry in enumerate(entries)]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    return {
        name: entry
        for key, inner in value.items()
        for name, entry in _flat(inner, f"{path}.{key}" if path else str(key)).items()
    }
