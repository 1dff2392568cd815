"""Figures of corruptions from records: Dice and HD95 per severity, the gap, ROOD-MRI's weighted means, the worst one.

All functions are pure: the same records give the same figures.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from voxward.metrics.summary import Summary, summarise
from voxward.robustness.record import Record
from voxward.robustness.summary import View

_DECAY = 2 / 3
"""ROOD-MRI's weight of a severity is this to the power of the severity."""

PerCase = Mapping[str, float]
"""A figure of each case, by its id."""


def without_corruptions(records: Sequence[Record]) -> tuple[Record, ...]:
    """Return all records but those of corruptions, which belong to no figure of attacks."""
    return tuple(record for record in records if record.corruption is None)


def of_corruptions(records: Sequence[Record]) -> tuple[Record, ...]:
    """Return the records of corruptions."""
    return tuple(record for record in records if record.corruption is not None)


@dataclass(frozen=True)
class CorruptionView:
    """Records of corruptions beside those of the clean cases, and how they are read.

    Attributes:
        records: All records of one or several systems.
    """

    records: Sequence[Record]

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The names of the systems that corruptions were tried on, sorted."""
        return tuple(sorted({record.model for record in of_corruptions(self.records)}))

    @cached_property
    def corruptions(self) -> tuple[str, ...]:
        """The names of the corruptions, sorted."""
        return tuple(sorted({record.attack for record in self._corrupted}))

    @cached_property
    def severities(self) -> tuple[int, ...]:
        """The severities above 0, ascending."""
        return tuple(sorted({int(record.eps) for record in self._corrupted}))

    @cached_property
    def _corrupted(self) -> tuple[Record, ...]:
        return tuple(record for record in of_corruptions(self.records) if record.eps)

    @cached_property
    def _by_unit(self) -> Mapping[tuple[str, str, int], Mapping[str, Sequence[Record]]]:
        """The records of each system, corruption and severity, by case: of several seeds there are several."""
        found: dict[tuple[str, str, int], dict[str, list[Record]]] = defaultdict(dict)
        for record in self._corrupted:
            key = record.model, record.attack, int(record.eps)
            found[key].setdefault(record.case, []).append(record)
        return found

    @cached_property
    def _clean(self) -> Mapping[str, PerCase]:
        view = View(self.records, deployed=True)
        return {model: view.clean_dice(model) for model in self.models}

    def clean(self, model: str) -> PerCase:
        """Return the Dice of each untouched case, of its file."""
        return self._clean[model]

    def dice(self, model: str, corruption: str, severity: int) -> PerCase:
        """Return the Dice of each case; of several seeds their mean."""
        rows = self._by_unit.get((model, corruption, severity), {})
        return {case: _mean([record.dice(deployed=True) for record in found]) for case, found in rows.items()}

    def hd95(self, model: str, corruption: str, severity: int) -> Summary | None:
        """Return the summary of HD95 in mm over the cases in which it is defined."""
        rows = self._by_unit.get((model, corruption, severity), {})
        return summarise([_mean_hd95(found) for found in rows.values()])

    def of_corruption(self, model: str, corruption: str) -> PerCase:
        """Return the mean Dice of each case over the severities of a corruption."""
        return _mean_of_cases([self.dice(model, corruption, severity) for severity in self.severities])

    def corrupted(self, model: str) -> PerCase:
        """Return the mean Dice of each case over all corruptions and severities."""
        return _mean_of_cases([self.of_corruption(model, corruption) for corruption in self.corruptions])

    def gap(self, model: str) -> PerCase:
        """Return by how much the Dice of each case is lower over all corruptions than without one."""
        clean = self.clean(model)
        return {case: clean[case] - dice for case, dice in self.corrupted(model).items()}

    def relative(self, model: str, corruption: str, severity: int | None = None) -> float | None:
        """Return the mean corrupted Dice as a share of the mean clean Dice of the same cases.

        Args:
            model: The system.
            corruption: The corruption.
            severity: The severity; None: the mean over all.
        """
        clean = self.clean(model)
        found = self.of_corruption(model, corruption) if severity is None else self.dice(model, corruption, severity)
        whole = math.fsum(clean[case] for case in found)
        return math.fsum(found.values()) / whole if whole > 0 else None

    def weighted(self, model: str) -> float | None:
        """Return ROOD-MRI's wm-DSC: the mean Dice over severities with the weights (2/3)^severity, clean is severity 0.

        It is the mean over the corruptions.
        """
        found = [
            _weighted([(0, self._clean_of(model, name)), *self._course(model, name)])
            for name in self.corruptions
            if self._course(model, name)
        ]
        return _mean(found) if found else None

    def degradation(self, model: str) -> float | None:
        """Return the mean of clean - corrupted Dice with the same weights, over the severities from 1 on."""
        found = [
            _weighted([(severity, self._clean_of(model, name) - dice) for severity, dice in course])
            for name in self.corruptions
            if (course := self._course(model, name))
        ]
        return _mean(found) if found else None

    def worst(self, model: str) -> tuple[str, Summary] | None:
        """Return the corruption with the lowest mean Dice over the severities, and that mean."""
        found = {name: summarise(list(self.of_corruption(model, name).values())) for name in self.corruptions}
        known = {name: one for name, one in found.items() if one is not None}
        if not known:
            return None
        name = min(known, key=lambda one: (known[one].mean, one))
        return name, known[name]

    def error_ratio(self, model: str, reference: str) -> float | None:
        """Return the errors (1 - Dice) of a system as a share of a reference system's, the mean over corruptions.

        For each corruption the errors are summed over severities and over the cases that both have, as in the mCE of
        Hendrycks and Dietterich (2019). None where a reference makes no error.
        """
        ratios = []
        for name in self.corruptions:
            own, other = 0.0, 0.0
            for severity in self.severities:
                mine, theirs = (self.dice(one, name, severity) for one in (model, reference))
                common = sorted({*mine} & {*theirs})
                own += math.fsum(1 - mine[case] for case in common)
                other += math.fsum(1 - theirs[case] for case in common)
            if other <= 0:
                return None
            ratios.append(own / other)
        return _mean(ratios) if ratios else None

    def _course(self, model: str, corruption: str) -> list[tuple[int, float]]:
        """The mean Dice of each severity."""
        found = [(severity, [*self.dice(model, corruption, severity).values()]) for severity in self.severities]
        return [(severity, _mean(values)) for severity, values in found if values]

    def _clean_of(self, model: str, corruption: str) -> float:
        """The mean clean Dice of the cases that a corruption was tried on."""
        clean = self.clean(model)
        return _mean([clean[case] for case in self.of_corruption(model, corruption)])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _mean_hd95(records: Sequence[Record]) -> float | None:
    found = [None if record.surface is None else record.surface.hd95_mm for record in records]
    known = [value for value in found if value is not None]
    return _mean(known) if len(known) == len(found) else None


def _mean_of_cases(parts: Sequence[PerCase]) -> PerCase:
    """The mean of each case over the parts that it is in."""
    cases = dict.fromkeys(case for part in parts for case in part)
    return {case: _mean([part[case] for part in parts if case in part]) for case in cases}


def _weighted(course: Sequence[tuple[int, float]]) -> float:
    weights = [_DECAY**severity for severity, _ in course]
    return math.fsum(w * value for w, (_, value) in zip(weights, course, strict=True)) / math.fsum(weights)
