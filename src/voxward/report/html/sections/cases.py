"""The section with every case, worst first, and the data of the viewer that shows its volumes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.wording import counted, eps_text, in_hounsfield
from voxward.report.html.case_rows import CaseRow, Group, case_rows, size_groups, widest
from voxward.report.html.download import records_data
from voxward.report.html.embedding import PAGE_BYTES, Embedded, Job, embed
from voxward.report.html.kept import Kept, NotShown, read_kept
from voxward.report.html.page import Setting
from voxward.report.html.still import Still, still_of
from voxward.report.html.strings import STRINGS
from voxward.report.html.volumes import Struck, Wanted, read_shown
from voxward.report.sources import AttackSource, Sources
from voxward.robustness.summary import breaking_in_files
from voxward.robustness.unit import safe_name

_SAID = STRINGS["cases"]
# Groups of fewer scans say nothing about another group; a smaller difference of Dice is none.
_FEW, _SAME = 10, 0.05
# What the page holds besides volumes and figures: text, style, scripts with the packed viewer, charts, a picture.
_OTHER_BYTES = 1_900_000


@dataclass(frozen=True)
class CaseTable:
    """The cases of one attack folder.

    Attributes:
        name: The name of the folder; empty where it is the only one.
        eps: The sizes of perturbation as text, ascending.
        rows: The cases, worst first.
        groups: The mean Dice of small, medium and large objects; none where the sizes are not known.
        several: Whether there are several systems.
        written: Whether the Dice is that of the written files.
        keys: For each row the key of its volumes in the viewer; empty where they cannot be shown.
        reasons: Why cases cannot be shown, and how many.
        unit: The unit of eps.
        channels: The names of the image's channels.
        breaking_files: Whether the smallest breaking change is that of written files.
    """

    name: str
    eps: tuple[str, ...]
    rows: tuple[CaseRow, ...]
    groups: tuple[Group, ...] = ()
    several: bool = False
    written: bool = False
    keys: tuple[str, ...] = ()
    reasons: tuple[tuple[str, int], ...] = ()
    unit: str = "range"
    channels: tuple[str, ...] = ()
    breaking_files: bool = False

    @property
    def surfaces(self) -> bool:
        """Whether a figure of the surfaces is known for any case."""
        return any(
            value is not None for row in self.rows for name in ("hd95_mm", "nsd") for value in row.surfaces(name)
        )

    @property
    def breaks(self) -> bool:
        """Whether an attack looked for the smallest perturbation that breaks a case."""
        return any(row.breaking_eps is not None for row in self.rows)

    @property
    def said_of_groups(self) -> str:
        """A sentence on the size of attack at which small, medium and large structures differ most."""
        place = widest(self.groups)
        few = min(group.cases for group in self.groups)
        if few < _FEW or place is None:
            return _SAID["groups_few"].format(few=counted(few, "scan"))
        lost = [group.clean - group.attacked[place] for group in self.groups]
        if max(lost) - min(lost) < _SAME:
            return _SAID["groups_same"]
        most, least = (self.groups[lost.index(value(lost))].label for value in (max, min))
        return _SAID["groups_differ"].format(eps=self.eps[place], most=most, least=least)

    def eps_of(self, value: float | None) -> str:
        """Return a breaking eps as text, with two digits."""
        return _SAID["none"] if value is None else eps_text(_two_digits(value, self.unit), self.unit, self.channels)

    @property
    def columns(self) -> int:
        """The number of columns."""
        return 3 + len(self.eps) + self.several + 4 * self.surfaces + self.breaks + bool(self.groups)

    @property
    def group_breaks(self) -> bool:
        """Whether the mean breaking eps is known of any group."""
        return any(group.breaking is not None for group in self.groups)


@dataclass(frozen=True)
class CasesSection:
    """What the section shows.

    Attributes:
        tables: A table per attack folder.
        viewer: The data of the viewer; None where no case can be shown.
        volumes: The volumes inside the page as JSON, by their keys.
        still: A picture of the first case that can be shown.
    """

    tables: tuple[CaseTable, ...]
    viewer: Mapping[str, Any] | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)
    still: Still | None = None


def cases(sources: Sources, setting: Setting) -> CasesSection | None:
    """Return every case of every attack folder; None where there is none with results."""
    attacks = [source for source in sources.attacks if case_rows(source)]
    if not attacks:
        return None
    found = [_Found.of(number, source, setting, len(attacks) > 1) for number, source in enumerate(attacks)]
    jobs = sorted((pair for one in found for pair in one.jobs), key=lambda pair: pair[0])
    placed = embed([job for _, job in jobs], setting, PAGE_BYTES - _OTHER_BYTES - _figures(attacks))
    shown = [case for one in found for case in one.viewer(placed)]
    viewer = {"cases": shown} if shown else None
    still = _still([job for _, job in jobs], placed)
    return CasesSection(tuple(one.table(placed) for one in found), viewer, placed.inside, still)


def _still(jobs: Sequence[Job], placed: Embedded) -> Still | None:
    """A picture of the first case that the viewer shows; None where there is none, or where it cannot be drawn."""
    first = next((job for job in jobs if job.key in placed.inside or job.key in placed.beside), None)
    if first is None:
        return None
    try:
        shown = read_shown(first.kept, first.wanted)
        return still_of(first.key, first.wanted.case, shown, first.kept.first.labels)
    except (NotShown, UserError):  # the viewer says why
        return None


def _figures(attacks: Sequence[AttackSource]) -> int:
    """The bytes that the figures of all records take in the page."""
    return sum(len(json.dumps(records_data(source.records))) for source in attacks)


@dataclass(frozen=True)
class _Found:
    """An attack folder, its rows, and the volumes that are to be packed, each with the Dice that orders them."""

    number: int
    source: AttackSource
    rows: tuple[CaseRow, ...]
    kept: Kept | None
    why: str
    name: str
    jobs: tuple[tuple[float, Job], ...] = ()

    @classmethod
    def of(cls, number: int, source: AttackSource, setting: Setting, several: bool) -> _Found:
        rows = case_rows(source)
        name = source.name if several else ""
        if any(record.mode == "patch" for record in source.records):
            return cls(number, source, rows, None, STRINGS["volumes"]["patch"], name)
        try:
            kept = read_kept(source.folder, None if setting.look.data is None else Path(setting.look.data))
        except NotShown as error:
            return cls(number, source, rows, None, str(error), name)
        jobs = {row.case: (row.order, job_of(number, source, kept, row.case, rows)) for row in reversed(rows)}
        return cls(number, source, rows, kept, "", name, tuple(reversed(jobs.values())))

    def key(self, case: str) -> str:
        """What the page calls the volumes of a case."""
        return f"{self.number}-{case}"

    def table(self, placed: Embedded) -> CaseTable:
        """Return the table, given where the volumes are."""
        first = next(record for record in self.source.records if record.kind == "attack")
        keys = [self.key(row.case) for row in self.rows]
        there = {**placed.inside, **placed.beside}
        reasons = [self.why or placed.why.get(key, "") for key in dict.fromkeys(keys) if key not in there]
        return CaseTable(
            name=self.name,
            eps=tuple(eps_text(one.eps, first.threat.unit, first.channels) for one in self.rows[0].struck),
            rows=self.rows,
            groups=size_groups(self.rows),
            several=len(self.source.models) > 1,
            written=self.source.deployed,
            breaking_files=breaking_in_files(self.source.records) is True,
            keys=tuple(key if key in there else "" for key in keys),
            reasons=tuple((reason, reasons.count(reason)) for reason in dict.fromkeys(reasons)),
            unit=first.threat.unit,
            channels=first.channels,
        )

    def viewer(self, placed: Embedded) -> list[dict[str, Any]]:
        """Return what the viewer knows of each case that it can show, worst first."""
        cases = dict.fromkeys(row.case for row in self.rows)
        there = [case for case in cases if self.key(case) in placed.inside or self.key(case) in placed.beside]
        return [self._viewer_case(case, placed) for case in there]

    def _viewer_case(self, case: str, placed: Embedded) -> dict[str, Any]:
        assert self.kept is not None
        rows = [row for row in self.rows if row.case == case]
        first = rows[0].clean
        bounds = first.threat.bounds
        return {
            "key": self.key(case), "case": case, "folder": self.name,
            "file": placed.beside.get(self.key(case)),
            "classes": list(self.kept.first.labels.foreground), "bounds": list(bounds[0]) if bounds else None,
            "unit_text": "HU" if in_hounsfield(first.channels) else _SAID["intensity"],
            "systems": [
                {
                    "name": row.system, "clean": _number(row.clean_dice),
                    "attacked": [
                        {"eps": one.eps, "text": eps_text(one.eps, first.threat.unit, first.channels, alone=True),
                         "attack": one.attack, "dice": _number(one.dice)}
                        for one in row.struck if one.records
                    ],
                }
                for row in rows
            ],
        }  # fmt: skip


def job_of(number: int, source: AttackSource, kept: Kept, case: str, rows: Sequence[CaseRow]) -> Job:
    """Return what the viewer is to show of a case.

    Args:
        number: The place of the attack folder among all folders of the page.
        source: The attack folder.
        kept: Its cases.
        case: The id of the case.
        rows: The rows of the attack folder.
    """
    mine = [row for row in rows if row.case == case]
    struck = tuple(Struck(row.system, one.eps, one.records) for row in mine for one in row.struck if one.records)
    seeds = source.protocol.seeds if source.protocol is not None else (0,)
    prefix = f"{number + 1}-" if number else ""
    wanted = Wanted(case, tuple(row.clean for row in mine), struck, tuple(seeds))
    return Job(f"{number}-{case}", kept, wanted, f"{prefix}{safe_name(case)}")


def _two_digits(value: float, unit: str) -> float:
    """An eps that reads with two digits: its search was not exact to more."""
    scale = 255 if unit == "range" and value <= 1 else 1
    return float(f"{value * scale:.2g}") / scale


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
