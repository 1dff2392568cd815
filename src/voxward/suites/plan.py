"""What a suite does and where: its cells, the units of work of each, and the rounds in which they are done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.recipe import load_recipe
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split
from voxward.phantoms.write import PHANTOMS, write_phantoms
from voxward.robustness.protocol import Protocol, load_protocol
from voxward.suites.definition import DATA, Suite, SuiteSystem
from voxward.training.begin import checked_recipe
from voxward.training.defence import DEFENCES

SUITE = "suite.json"
"""The file of a suite's folder that says what the suite is."""
TRAIN, SCORE, ATTACK = "train", "score", "attack"
STAGES = (TRAIN, SCORE, ATTACK)
"""What is done in each cell, in this order. A further stage is a name here and a function in `commands.suite`."""


@dataclass(frozen=True)
class Unit:
    """One stage of one cell: a system on a task.

    Attributes:
        task: The name of the task.
        system: The name of the system.
        stage: The stage.
    """

    task: str
    system: str
    stage: str

    @property
    def cell(self) -> tuple[str, str]:
        """The task and the system."""
        return self.task, self.system


@dataclass(frozen=True)
class SuitePlan:
    """A suite, and where its files lie.

    Attributes:
        suite: The suite.
        root: The folder of all results.
        data: The folder in which datasets lie.
    """

    suite: Suite
    root: Path
    data: Path

    @cached_property
    def protocol(self) -> Protocol:
        """How every system is attacked."""
        return load_protocol(self.suite.protocol, self.suite.overrides)

    @property
    def cells(self) -> tuple[tuple[str, str], ...]:
        """Every task and system, task by task."""
        return tuple(
            (task, system)
            for task in self.suite.tasks
            for system in self.suite.systems
            if self.suite.takes_part(system, task)
        )

    @property
    def rounds(self) -> tuple[tuple[Unit, ...], ...]:
        """All units, in rounds: a unit needs results of earlier rounds only."""
        depths = {system: len([*self._before(system)]) for system in self.suite.systems}
        trained = [name for name, one in self.suite.systems.items() if one.path is None]
        levels = sorted({depths[name] for name in trained})
        trainings = [
            tuple(Unit(*cell, TRAIN) for cell in self.cells if cell[1] in trained and depths[cell[1]] == level)
            for level in levels
        ]
        others = [tuple(Unit(*cell, stage) for cell in self.cells) for stage in STAGES if stage != TRAIN]
        return tuple(units for units in (*trainings, *others) if units)

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units of all rounds."""
        return tuple(unit for units in self.rounds for unit in units)

    def needs(self, unit: Unit) -> tuple[Unit, ...]:
        """Return the units whose results one needs: the training of its own system, or of the one that it hardens."""
        if unit.stage != TRAIN:
            return () if self.system(unit).path is not None else (Unit(*unit.cell, TRAIN),)
        before = self.system(unit).harden
        if before is None or self.suite.systems[before].path is not None:
            return ()
        return (Unit(unit.task, before, TRAIN),)

    def system(self, unit: Unit) -> SuiteSystem:
        """Return the system of a unit."""
        return self.suite.systems[unit.system]

    def dataset(self, task: str) -> Path:
        """Return the folder of a task's dataset."""
        given = self.suite.tasks[task].data
        return self.root / "tasks" / task / DATA if given is None else self.data / given

    def folder(self, task: str, system: str) -> Path:
        """Return the folder of a cell, which is the run where the system is trained here."""
        return self.root / "tasks" / task / system

    def source(self, task: str, system: str) -> Path:
        """Return what is scored and attacked: the run of the cell, or the model that is there already."""
        path = self.suite.systems[system].path
        return self.folder(task, system) if path is None else Path(path.replace("{task}", task))

    def attack_folder(self, task: str, system: str) -> Path:
        """Return the folder of the attack on a cell, where `voxward attack RUN` writes by default, too."""
        return self.folder(task, system) / "attack"

    def overrides(self, unit: Unit) -> tuple[str, ...]:
        """Return the changes of a recipe: those for the task, then those for the system."""
        return (*self.suite.tasks[unit.task].overrides, *self.system(unit).overrides)

    @property
    def settings(self) -> dict[str, Any]:
        """What every call that fills the folder must have in common; further tasks and systems may be added."""
        suite = self.suite
        tasks = {f"tasks/{name}": to_data(task) for name, task in suite.tasks.items()}
        systems = {f"systems/{name}": self._content(one) for name, one in suite.systems.items()}
        return {
            "name": suite.name, "description": suite.description, "entries": {**tasks, **systems},
            "protocol": to_data(self.protocol), "fold": suite.fold, "folds": suite.folds, "seed": suite.seed,
        }  # fmt: skip

    def check(self) -> None:
        """Refuse what cannot work, before any training: nothing is written.

        Raises:
            UserError: A dataset, a recipe, a defence, phantoms or the protocol is wrong; the message says which.
        """
        for name, system in self.suite.systems.items():
            if system.harden is not None and system.method not in DEFENCES:
                known = ", ".join(DEFENCES)
                raise UserError(f"systems.{name}.method must be one of {known}, got {system.method!r}")
        self._check_datasets()

    def write_phantoms(self) -> None:
        """Write the phantoms of all tasks that are not there yet."""
        for name, task in self.suite.tasks.items():
            if task.phantoms is not None and not self.dataset(name).is_dir():
                made = task.phantoms
                write_phantoms(self.dataset(name), made.cases, made.seed, made.kind, **made.every_option)

    def _check_datasets(self) -> None:
        missing = [n for n, task in self.suite.tasks.items() if task.data is not None and not self.dataset(n).is_dir()]
        if missing:
            left = [name for name in self.suite.tasks if name not in missing]
            others = f", or choose tasks that are there (--tasks {' '.join(left)})" if left else ""
            raise UserError(
                f"no dataset at {', '.join(str(self.dataset(name)) for name in missing)}: say where the datasets lie "
                f"(--data, or the environment variable VOXWARD_DATA){others}"
            )
        recipes = {name: one.recipe for name, one in self.suite.systems.items() if one.recipe is not None}
        for task, entry in self.suite.tasks.items():
            if entry.phantoms is not None:
                PHANTOMS.build(entry.phantoms.kind, **entry.phantoms.every_option)
                folds = min(self.suite.folds, entry.phantoms.cases)
                if not 0 <= self.suite.fold < folds:
                    raise UserError(f"fold must be 0 to {folds - 1} for the task {task}, got {self.suite.fold}")
                for name, recipe in recipes.items():
                    load_recipe(recipe, self.overrides(Unit(task, name, TRAIN)))
                continue
            dataset = open_dataset(self.dataset(task))
            load_split(dataset, self.suite.fold, self.suite.seed, self.suite.folds)
            for name, recipe in recipes.items():
                if self.suite.takes_part(name, task):
                    checked_recipe(load_recipe(recipe, self.overrides(Unit(task, name, TRAIN))), dataset)

    def _content(self, system: SuiteSystem) -> dict[str, Any]:
        """A system with what its recipe says, so that an edited recipe is noticed."""
        recipe = None if system.recipe is None else to_data(load_recipe(system.recipe))
        return {**to_data(system), "content": recipe}

    def _before(self, system: str) -> Iterator[str]:
        """The systems that one is hardened from, the nearest first."""
        before = self.suite.systems[system].harden
        while before is not None:
            yield before
            before = self.suite.systems[before].harden
