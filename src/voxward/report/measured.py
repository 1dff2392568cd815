"""What the records of an attack folder say about each system, as figures: clean, under attack, and under noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from voxward.core.errors import UserError
from voxward.metrics.summary import Summary, summarise
from voxward.report.benchmark import comparable
from voxward.report.sources import AttackSource
from voxward.robustness.eps import eps_texts
from voxward.robustness.record import EQUAL_NOISE, NOISE
from voxward.robustness.summary import View

NOISES = (NOISE, *EQUAL_NOISE)
"""The controls that are random noise: of the largest size in every voxel, or as strong in all as the worst attack."""
# A case whose Dice is below this share of the system's mean Dice on unchanged cases is broken.
_KEPT = 0.5


@dataclass(frozen=True)
class CaseChange:
    """The mean Dice of one case before and after a change.

    Attributes:
        case: The case's id.
        clean: The Dice of the unchanged case.
        dice: The Dice of the changed case.
        limit: Half of the system's mean Dice on unchanged cases: a case below it counts as broken, as it does in the
            robust accuracy and for attacks that look for the smallest change.
    """

    case: str
    clean: float
    dice: float
    limit: float

    @property
    def broken(self) -> bool:
        """Whether the changed case is below the limit."""
        return self.dice < self.limit

    @property
    def lost(self) -> bool:
        """Whether the change takes the case below the limit: unchanged, it is not."""
        return self.broken and self.clean >= self.limit


@dataclass(frozen=True)
class Change:
    """What a change of one kind and size does to the cases of a system.

    Attributes:
        cases: The cases, those with the lowest Dice first; at least one.
    """

    cases: tuple[CaseChange, ...]

    @property
    def limit(self) -> float:
        """The Dice below which a case is broken."""
        return self.cases[0].limit

    @property
    def dice(self) -> Summary:
        """The Dice of the changed cases."""
        # In the order of their ids, as every other table, so that the interval is the same to the last digit.
        found = summarise([one.dice for one in sorted(self.cases, key=lambda one: one.case)])
        assert found is not None
        return found

    @property
    def clean(self) -> float:
        """The mean Dice of the same cases without a change."""
        return math.fsum(one.clean for one in self.cases) / len(self.cases)

    @property
    def broken(self) -> tuple[CaseChange, ...]:
        """The cases that are below the limit."""
        return tuple(one for one in self.cases if one.broken)

    @property
    def lost(self) -> tuple[CaseChange, ...]:
        """The cases that the change takes below the limit."""
        return tuple(one for one in self.cases if one.lost)


@dataclass(frozen=True)
class AtSize:
    """What changes of one size do to a system.

    Attributes:
        eps: The size, in the unit of the threat model.
        text: The size as text.
        attack: What the strongest attack on each case does.
        noise: What random noise does, by the name of its control.
    """

    eps: float
    text: str
    attack: Change
    noise: Mapping[str, Change] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What was measured on one system.

    Attributes:
        model: The system's name.
        view: Its records, and whether their Dice is that of written files.
        clean: The Dice of the unchanged cases.
        cases: The Dice of each of these cases.
        sizes: What was found at each size, the smallest first; none where no attack has finished.
        attacks: The names of the attacks.
        white_box: Whether one of them knows the gradients.
    """

    model: str
    view: View
    clean: Summary
    cases: Mapping[str, float]
    sizes: tuple[AtSize, ...]
    attacks: tuple[str, ...]
    white_box: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.view.records[0].classes


@dataclass(frozen=True)
class Unmeasurable:
    """A system whose records give no figures.

    Attributes:
        model: The system's name.
        why: The reason, a sentence without a full stop.
    """

    model: str
    why: str


def measured(source: AttackSource) -> tuple[Measured | Unmeasurable, ...]:
    """Return the figures of each system of a folder, or why there are none."""
    return tuple(_system(source, model) for model in source.models)


def _system(source: AttackSource, model: str) -> Measured | Unmeasurable:
    try:
        # Whether the Dice is of files is one answer for the whole folder, so that its systems can be compared.
        whole = comparable(source.records)
        view = replace(whole, records=tuple(record for record in whole.records if record.model == model))
        cases = view.clean_dice(model)
        clean = summarise(list(cases.values()))
    except UserError as error:
        return Unmeasurable(model, str(error))
    assert clean is not None
    rows = [record for record in view.records if record.kind == "attack"]
    sizes = tuple(size for eps in view.eps if (size := _at(view, model, cases, eps)) is not None)
    attacks = tuple(sorted({record.attack for record in rows}))
    return Measured(model, view, clean, cases, sizes, attacks, any(record.white_box for record in rows))


def _at(view: View, model: str, clean: Mapping[str, float], eps: float) -> AtSize | None:
    limit = _KEPT * view.mu(model)
    attack = _change(view.case_dice(model, eps), clean, limit)
    if attack is None:
        return None
    found = {name: _change(_control_dice(view, name, eps), clean, limit) for name in NOISES}
    text = eps_texts(view.records, alone=True)(eps)
    return AtSize(eps, text, attack, {name: change for name, change in found.items() if change is not None})


def _control_dice(view: View, name: str, eps: float) -> dict[str, float]:
    """The Dice of each case under a control, the lowest of its seeds."""
    found: dict[str, float] = {}
    for record in view.records:
        if record.kind == "control" and record.attack == name and record.eps == eps:
            found[record.case] = min(found.get(record.case, math.inf), record.dice(view.deployed, view.policy))
    return found


def _change(dice: Mapping[str, float], clean: Mapping[str, float], limit: float) -> Change | None:
    pairs = [CaseChange(case, clean[case], value, limit) for case, value in dice.items() if case in clean]
    return Change(tuple(sorted(pairs, key=lambda one: (one.dice, one.case)))) if pairs else None
