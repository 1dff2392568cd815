"""Suites made by hand, without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.report.folders import attack_folder, metrics_data, write_json
from tests.robustness.books import clean, record
from voxward.core.document import with_checksum
from voxward.core.structure import from_data
from voxward.engine.settings import settle
from voxward.robustness.record import Record
from voxward.suites.definition import Suite
from voxward.suites.notes import DONE, FAILED, Note, Notes
from voxward.suites.plan import SUITE, SuitePlan, Unit

SYSTEMS: Mapping[str, Any] = {"rog": {"recipe": "rog", "minutes": 1.0}, "rog-free": {"harden": "rog", "minutes": 2.0}}


def suite(**changes: Any) -> Suite:
    """Two tasks and two systems, of which one hardens the other."""
    data = {
        "name": "made",
        "tasks": {"liver": {"data": "Liver"}, "organ": {"phantoms": {"kind": "organ", "cases": 4, "size": 16}}},
        "systems": SYSTEMS,
        "overrides": ["threat.eps=[0.1, 0.2]", "attacks=[apgd-ce, {attack: apgd-ce, sweep: {steps: [10]}}, pgd-ce]"],
    }
    return from_data(Suite, {**data, **changes}, "made.yaml")


def plan(root: Path, **changes: Any) -> SuitePlan:
    return SuitePlan(suite(**changes), root, root / "datasets")


def begun(root: Path, **changes: Any) -> SuitePlan:
    """A suite of which only suite.json is there."""
    found = plan(root, **changes)
    settle(root / SUITE, found.settings, "a suite", grows={"entries": "{}"})
    return found


def records(dice: Mapping[str, Sequence[float]], case: str = "a", clean_dice: float = 0.8) -> list[Record]:
    """Records of one case; `dice` holds for each attack the Dice at eps 0.1 and 0.2."""
    same = (clean_dice, clean_dice)
    found = [clean(case, dice=same)]
    for attack, values in dice.items():
        found += [
            record(attack, case, (value, value), eps, clean=same) for eps, value in zip((0.1, 0.2), values, strict=True)
        ]
    return found


def finish(found: SuitePlan, task: str, system: str, dice: Mapping[str, float | None], held: Sequence[Record]) -> None:
    """Write what a finished cell leaves."""
    write_json(found.folder(task, system) / "recipe.yaml", {})
    write_json(found.folder(task, system) / "metrics.json", metrics_data(dice))
    attack_folder(found.attack_folder(task, system), held)
    for unit in found.units:
        if unit.cell == (task, system):
            Notes(found.root).write(unit, Note(DONE, 1.0))


def results(found: SuitePlan, unit: Unit) -> Path:
    """Write what a stage leaves, as far as it is looked for, and return its place."""
    folder = found.folder(*unit.cell)
    path = {"train": folder / "recipe.yaml", "score": folder / "metrics.json"}.get(unit.stage)
    if path is not None:
        return write_json(path, {})
    (folder / "attack" / "records").mkdir(parents=True, exist_ok=True)
    return folder / "attack"


def fail(found: SuitePlan, task: str, system: str, stage: str, reason: str) -> None:
    Notes(found.root).write(Unit(task, system, stage), Note(FAILED, reason=reason))


def damaged(path: Path) -> None:
    """Change a digit of a file that carries a checksum."""
    write_json(path, with_checksum({"state": "done"}) | {"state": "failed"})
