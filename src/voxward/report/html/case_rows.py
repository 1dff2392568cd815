"""What was found on every case of an attack folder: one row per case and system, and the sizes of their structures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voxward.core.wording import counted
from voxward.report.html.strings import STRINGS
from voxward.report.sources import AttackSource
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.summary import Key, View

_SAID = STRINGS["cases"]
_GROUPS = ("small", "medium", "large")


@dataclass(frozen=True)
class StruckDice:
    """A case under attack with perturbations of one size.

    Attributes:
        eps: The size.
        dice: The lowest mean Dice of all attacks and the clean case; NaN where nothing was run.
        records: The attacks, the one that hurt most first.
        attack: The name of the attack that did it; empty where none lowered the Dice.
    """

    eps: float
    dice: float
    records: tuple[Record, ...]
    attack: str


@dataclass(frozen=True)
class CaseRow:
    """One case of one system.

    Attributes:
        system: The name of the system.
        case: The id of the case.
        clean: The clean record.
        clean_dice: The mean Dice without an attack.
        struck: The case under attack, eps ascending; all rows have the same sizes.
        breaking_eps: The smallest eps that broke the case, found by a minimum-norm attack or the size of another one;
            None where no minimum-norm attack broke it.
        group: `small`, `medium` or `large`; empty where the sizes are not known.
    """

    system: str
    case: str
    clean: Record
    clean_dice: float
    struck: tuple[StruckDice, ...]
    breaking_eps: float | None
    group: str = ""

    @property
    def order(self) -> float:
        """The Dice that cases are ordered by, the worst one first: that at the largest eps at which there is one."""
        known = [one.dice for one in self.struck if math.isfinite(one.dice)]
        return known[-1] if known else self.clean_dice

    @property
    def rank(self) -> tuple[float, ...]:
        """What cases are ordered by: Dice at the largest eps, the next smaller eps and so on, then the breaking eps."""
        known = [one.dice for one in reversed(self.struck) if math.isfinite(one.dice)]
        # A Dice that reads 0.00 is no worse than another one that does.
        return *(round(dice, 2) for dice in known or [self.clean_dice]), self.breaking_eps or math.inf

    @property
    def worst(self) -> Record | None:
        """The attack that hurt most at the largest eps."""
        return next((one.records[0] for one in reversed(self.struck) if one.records), None)

    @property
    def attack(self) -> str:
        """The name of the attack that hurt most at the largest eps."""
        return next((one.attack or _SAID["no_attack"] for one in reversed(self.struck) if one.records), "")

    @property
    def group_name(self) -> str:
        """The group as the reader sees it."""
        return _SAID[self.group] if self.group else _SAID["none"]

    @property
    def group_order(self) -> int:
        """The place of the group, from the smallest."""
        return _GROUPS.index(self.group) if self.group else -1

    def surfaces(self, name: str) -> tuple[float | None, float | None]:
        """Return a figure of the surfaces without and under the worst attack; None where it is not known.

        Args:
            name: `hd95_mm` or `nsd`.
        """
        worst = self.worst
        if worst is None:
            return None, None
        # The Dice stays that of the clean case where no attack lowered it, and so do its surfaces.
        lowered = next(one.attack for one in reversed(self.struck) if one.records)
        clean, struck = worst.clean_surface, worst.surface if lowered else worst.clean_surface
        return getattr(clean, name, None), getattr(struck, name, None)


@dataclass(frozen=True)
class Group:
    """The cases with structures of a similar size.

    Attributes:
        name: `small`, `medium` or `large`.
        cases: The number of cases.
        largest_mm3: The largest size in the group, in mm3.
        clean: The mean Dice without an attack, over cases and systems.
        attacked: The same at each eps, ascending; NaN where it was not run on all of them.
        breaking: The mean of the breaking eps; None where it is not known of all of them.
    """

    name: str
    cases: int
    largest_mm3: float
    clean: float
    attacked: tuple[float, ...]
    breaking: float | None = None

    @property
    def label(self) -> str:
        """The name as the reader sees it."""
        return _SAID[self.name]

    @property
    def size(self) -> str:
        """The largest size as the reader sees it, in cm3 from 1 cm3 on."""
        return f"{self.largest_mm3:.0f} mm³" if self.largest_mm3 < 1000 else f"{self.largest_mm3 / 1000:.3g} cm³"

    @property
    def counted(self) -> str:
        """The number of cases as the reader sees it."""
        return counted(self.cases, "scan")


def case_rows(source: AttackSource) -> tuple[CaseRow, ...]:
    """Return the cases that have a clean record and an attack, the worst one first.

    Args:
        source: The attack folder.
    """
    clean = {record.case_key: record for record in source.records if record.attack == CLEAN}
    written = source.deployed
    view = View(source.records, written)
    by_key: dict[Key, list[Record]] = {}
    for record in source.records:
        if record.kind == "attack":
            by_key.setdefault(Key(record.model, record.case, record.eps), []).append(record)
    if not by_key:
        return ()
    dice = {key: worst.dice for key, worst in view.worst().items()}
    searched = {model: view.breaking_eps(model) for model in view.models}
    limits = {model: view.mu(model) / 2 for model in view.models}
    groups = _groups(list(clean.values()))
    rows = [
        CaseRow(
            model, case, record, record.clean_dice(written),
            tuple(
                _struck(by_key.get(key, ()), dice.get(key), key.eps, record.clean_dice(written), written)
                for key in (Key(model, case, eps) for eps in view.eps)
            ),
            _breaking(searched[model].get(case), dice, [Key(model, case, eps) for eps in view.eps], limits[model]),
            groups.get(case, ""),
        )
        for (model, case), record in clean.items()
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (row.rank, row.case, row.system)))


def _breaking(searched: float | None, dice: Mapping[Key, float], keys: Sequence[Key], limit: float) -> float | None:
    """The smallest size that is known to break a case; None unless an attack looked for the smallest one."""
    if searched is None:
        return None
    return min([searched, *(key.eps for key in keys if dice.get(key, math.inf) < limit)])


def _struck(records: Sequence[Record], dice: float | None, eps: float, clean: float, written: bool) -> StruckDice:
    ordered = tuple(sorted(records, key=lambda record: (record.dice(written), record.attack, record.seed)))
    if not ordered or dice is None:
        return StruckDice(eps, math.nan, (), "")
    return StruckDice(eps, dice, ordered, ordered[0].attack if ordered[0].dice(written) < clean else "")


def size_groups(rows: Sequence[CaseRow]) -> tuple[Group, ...]:
    """Return the mean Dice of each group of sizes; none where the sizes are not known.

    Args:
        rows: All rows of an attack folder.
    """
    found = list[Group]()
    for name in _GROUPS:
        mine = [row for row in rows if row.group == name]
        if not mine:
            return ()
        sizes = [size for row in mine if (size := smallest_mm3(row.clean)) is not None]
        attacked = tuple(_mean([one.dice for one in same]) for same in zip(*(row.struck for row in mine), strict=True))
        breaks = [row.breaking_eps for row in mine if row.breaking_eps is not None]
        breaking = _mean(breaks) if len(breaks) == len(mine) else None
        clean = _mean([row.clean_dice for row in mine])
        found.append(Group(name, len({row.case for row in mine}), max(sizes), clean, attacked, breaking))
    return tuple(found)


def widest(groups: Sequence[Group]) -> int | None:
    """Return the place of the eps at which the groups differ most; None where it is not known.

    Args:
        groups: All groups of an attack folder.
    """
    by_eps = enumerate(zip(*(group.attacked for group in groups), strict=True))
    spreads = [(max(means) - min(means), place) for place, means in by_eps if all(map(math.isfinite, means))]
    return max(spreads)[1] if spreads else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def smallest_mm3(record: Record) -> float | None:
    """Return the volume of the smallest class that the truth of a case holds, in mm3; None where it is not known."""
    return min((size for size in record.truth_mm3 if size > 0), default=None)


def _groups(clean: Sequence[Record]) -> dict[str, str]:
    """The group of each case: thirds of the cases, by the volume of the smallest class in the truth."""
    sizes = {record.case: size for record in clean if (size := smallest_mm3(record)) is not None}
    if len(sizes) < len(_GROUPS):
        return {}
    ordered = sorted(sizes, key=lambda case: (sizes[case], case))
    return {case: _GROUPS[place * len(_GROUPS) // len(ordered)] for place, case in enumerate(ordered)}
