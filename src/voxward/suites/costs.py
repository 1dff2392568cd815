"""What a suite costs: the minutes of every cell before anything is trained, and the cases that a budget allows."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxward.core.choices import Compute, Fold, Reading
from voxward.core.errors import UserError
from voxward.core.progress import Progress
from voxward.core.wording import counted
from voxward.data.formats import open_dataset
from voxward.phantoms.write import write_phantoms
from voxward.robustness.bench import Source
from voxward.robustness.cost import estimate
from voxward.robustness.description import read_protocol
from voxward.robustness.setup import set_up
from voxward.suites.notes import finished
from voxward.suites.plan import ATTACK, TRAIN, SuitePlan, Unit

_TRIAL_MINUTES = 0.02
"""How long a network is trained of which only the pace is to be known."""


@dataclass(frozen=True)
class AttackCost:
    """What the attack on one system and task costs.

    Attributes:
        minutes: The minutes for the cases that are attacked.
        cases: How many cases are attacked.
        every: How many could be.
    """

    minutes: float
    cases: int
    every: int

    def within(self, budget: float | None) -> AttackCost:
        """Return the cost of as many cases as fit into a budget, at least one.

        Args:
            budget: The minutes; None: any number.
        """
        if budget is None or self.minutes <= budget:
            return self
        count = max(1, math.floor(self.cases * budget / self.minutes))
        return replace(self, cases=count, minutes=self.minutes * count / self.cases)


@dataclass(frozen=True)
class CellCost:
    """What one cell costs.

    Attributes:
        task: The name of the task.
        system: The name of the system.
        training: The minutes of the training; None where its epochs decide, which is not estimated.
        attack: The cost of the attack; None where it could not be estimated.
        reason: Why not.
    """

    task: str
    system: str
    training: float | None
    attack: AttackCost | None
    reason: str = ""


@dataclass(frozen=True)
class SuiteCosts:
    """What a suite costs on one process like this one.

    Attributes:
        cells: The cost of every cell that is not finished.
    """

    cells: tuple[CellCost, ...]

    @property
    def hours(self) -> float:
        """The sum over the cells, in hours; what is not known is not in it."""
        minutes = [one.training or 0.0 for one in self.cells]
        return math.fsum([*minutes, *(one.attack.minutes for one in self.cells if one.attack is not None)]) / 60


def attack_cost(plan: SuitePlan, unit: Unit, system: Path, dataset: Path, device: str) -> AttackCost:
    """Estimate the attack on a system of one task, every attack with its whole budget.

    Args:
        plan: The suite.
        unit: The unit of the attack.
        system: What is attacked.
        dataset: The folder of the task's dataset.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`.

    Raises:
        UserError: The system cannot be attacked so.
    """
    changes = plan.system(unit).overrides if plan.system(unit).path is not None else ()
    protocol = replace(plan.protocol, cases=limit_of(plan, unit))
    source, opened = Source.of(str(system), changes, device), open_dataset(dataset)
    with tempfile.TemporaryDirectory() as place:
        worker = set_up([source], opened, protocol, Path(place), False, plan.cases(unit.task, dataset), Reading())
        count = len(worker.bench.cases)
        return AttackCost(60 * estimate(worker, early_ends=False).hours, count, count)


def limit_of(plan: SuitePlan, unit: Unit) -> int | None:
    """Return how many cases the suite attacks at most on a task: the smaller of its own limit and the protocol's."""
    limits = [one for one in (plan.suite.tasks[unit.task].attacked, plan.protocol.cases) if one is not None]
    return min(limits, default=None)


def cases_within(plan: SuitePlan, unit: Unit, device: str) -> tuple[int | None, str]:
    """Return how many cases an attack has time for, as it was decided when the attack began.

    Args:
        plan: The suite.
        unit: The unit of the attack.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`.

    Returns:
        The number, None for all; and a sentence where the budget is the reason that it is not higher.
    """
    budget, limit = plan.system(unit).attack_minutes, limit_of(plan, unit)
    if budget is None:
        return limit, ""
    begun = read_protocol(plan.attack_folder(*unit.cell))
    if begun is not None:
        count = begun.protocol.cases
        return count, "" if count == limit else _short_of(budget, count)
    whole = attack_cost(plan, unit, plan.source(*unit.cell), plan.dataset(unit.task), device)
    fitting = whole.within(budget)
    if fitting.cases == whole.cases:
        return limit, ""
    return fitting.cases, _short_of(budget, fitting.cases)


def _short_of(budget: float, count: int | None) -> str:
    return f"the budget of {budget:g} minutes has room for {counted(count or 0, 'case')}"


def costs_of(plan: SuitePlan, compute: Compute, progress: Progress, train: Callable[..., Any]) -> SuiteCosts:
    """Estimate what a suite costs; nothing is written into its folders.

    A recipe that is not trained yet is trained for a second on each task, in a temporary folder: how fast a network is
    does not depend on what it has learnt. A system that is hardened is as fast as the one that it begins with.

    Args:
        plan: The suite.
        compute: The device, and how many cases are prepared at once.
        progress: Told how far the trials are.
        train: Trains a recipe, as `voxward.train` does.
    """
    known, found = dict[tuple[str, str], AttackCost | str](), list[CellCost]()
    for number, cell in enumerate(plan.cells, 1):
        training, attack = Unit(*cell, TRAIN), Unit(*cell, ATTACK)
        system = plan.system(attack)
        root = _root_of(plan, cell[1])
        if (cell[0], root) not in known:
            known[cell[0], root] = _tried(plan, Unit(cell[0], root, ATTACK), compute, train)
        cost, trained = known[cell[0], root], system.path is not None or finished(plan, training)
        if not finished(plan, attack):
            minutes = 0.0 if trained else system.minutes
            if isinstance(cost, str):
                found.append(CellCost(*cell, minutes, None, cost))
            else:
                found.append(CellCost(*cell, minutes, cost.within(system.attack_minutes)))
        progress("estimate", number, len(plan.cells))
    return SuiteCosts(tuple(found))


def _root_of(plan: SuitePlan, system: str) -> str:
    """The system that a hardened one begins with in the end."""
    while (before := plan.suite.systems[system].harden) is not None:
        system = before
    return system


def _tried(plan: SuitePlan, unit: Unit, compute: Compute, train: Callable[..., Any]) -> AttackCost | str:
    """What an attack costs, or why that is not known."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a network that is trained for a second is poor, and says so
        try:
            dataset, source = plan.dataset(unit.task), plan.source(*unit.cell)
            made = plan.suite.tasks[unit.task].phantoms
            if made is not None and not dataset.is_dir():
                dataset = Path(place) / "phantoms"
                write_phantoms(dataset, made.cases, made.seed, made.kind, **made.every_option)
            if plan.system(unit).path is None and not finished(plan, Unit(*unit.cell, TRAIN)):
                source = Path(place) / "run"
                train(
                    dataset, out=source, recipe=plan.system(unit).recipe, overrides=plan.overrides(unit),
                    minutes=_TRIAL_MINUTES, compute=replace(compute, cluster=None),
                    fold=Fold(plan.suite.fold, plan.suite.folds, plan.suite.seed),
                )  # fmt: skip
            return attack_cost(plan, unit, source, dataset, compute.device)
        except (UserError, OSError, FloatingPointError, MemoryError) as error:
            return " ".join(str(error).split())
