"""What a suite does and where: its cells, the units of work of each, and the rounds in which they are done."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from voxward.core.choices import Cases
from voxward.core.errors import UserError
from voxward.core.failures import files_of
from voxward.core.recipe import Recipe, load_recipe
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split
from voxward.phantoms.write import PHANTOMS, write_phantoms
from voxward.robustness.protocol import Protocol, load_protocol
from voxward.suites.definition import DATA, Suite, SuiteSystem
from voxward.systems.digest import digest
from voxward.training.begin import checked_recipe, refuse_unused
from voxward.training.defence import DEFENCES
from voxward.training.harden import begun_with

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
        home: The folder of the suite's file, which may be moved with all that lies beside it; None: a packaged suite.
    """

    suite: Suite
    root: Path
    data: Path
    home: Path | None = None

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

    def from_it(self, unit: Unit) -> tuple[Unit, ...]:
        """Return the units whose results are made from those of a unit, in one or several steps."""
        direct = [one for one in self.units if unit in self.needs(one)]
        return tuple(dict.fromkeys(found for one in direct for found in (one, *self.from_it(one))))

    def begun(self, task: str, system: str) -> bool:
        """Return whether the training of a cell was begun, so that it can go on."""
        folder = self.folder(task, system)
        # A results folder of nnU-Net that was hardened keeps the recipe in the folder of its fold.
        return (folder / "recipe.yaml").is_file() or any(folder.glob("fold_*/hardening/recipe.yaml"))

    def there(self, unit: Unit) -> bool:
        """Return whether the results of a unit that has ended are still there."""
        if unit.stage == TRAIN:
            return self.begun(*unit.cell)
        if unit.stage == SCORE:
            return (self.folder(*unit.cell) / "metrics.json").is_file()
        return (self.attack_folder(*unit.cell) / "records").is_dir()

    def cases(self, task: str, dataset: Path | None = None) -> Cases:
        """Return the held-out cases of a task: all systems are scored and attacked on these, whoever trained them.

        Args:
            task: The name of the task.
            dataset: The folder of its dataset, where it lies elsewhere.
        """
        place = self.dataset(task) if dataset is None else dataset
        split = load_split(open_dataset(place), self.suite.fold, self.suite.seed, self.suite.folds)
        return Cases(place, ids=split.validation)

    def system(self, unit: Unit) -> SuiteSystem:
        """Return the system of a unit, with the time budgets that it has on the unit's task."""
        return self.suite.systems[unit.system].within(self.suite.tasks[unit.task])

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
        tasks = {f"tasks/{name}": {**to_data(one), "content": self._data(name)} for name, one in suite.tasks.items()}
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
            if system.harden is not None and system.defence[0] not in DEFENCES:
                known = ", ".join(DEFENCES)
                raise UserError(f"systems.{name}.method must be one of {known}, got {system.method!r}")
        self._check_datasets()
        missing = [str(self.source(*cell)) for cell in self.cells if not self._is_there(*cell)]
        if missing:
            warnings.warn(f"there is no {', '.join(missing)}: these cells will fail, the others go on", stacklevel=2)

    def _is_there(self, task: str, system: str) -> bool:
        """Whether a model that is not trained here is where the suite says."""
        return self.suite.systems[system].path is None or self.source(task, system).exists()

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
        for task, entry in self.suite.tasks.items():
            recipes = [recipe for system in self.suite.systems if (recipe := self._recipe(task, system)) is not None]
            if entry.phantoms is not None:
                PHANTOMS.build(entry.phantoms.kind, **entry.phantoms.every_option)
                folds = min(self.suite.folds, entry.phantoms.cases)
                if not 0 <= self.suite.fold < folds:
                    raise UserError(f"fold must be 0 to {folds - 1} for the task {task}, got {self.suite.fold}")
                continue
            dataset = open_dataset(self.dataset(task))
            load_split(dataset, self.suite.fold, self.suite.seed, self.suite.folds)
            for recipe in recipes:
                checked_recipe(recipe, dataset)

    def _recipe(self, task: str, system: str) -> Recipe | None:
        """The recipe by which a system is trained or hardened on a task; None where only a model knows it, or none is.

        Raises:
            UserError: An override, or the defence, is wrong.
        """
        before = [system, *self._before(system)]
        first = self.suite.systems[before[-1]].recipe
        if first is None or not self.suite.takes_part(system, task):
            return None
        changes, own = list[str](), tuple[str, ...]()
        for name in reversed(before):
            own = self.overrides(Unit(task, name, TRAIN))
            if self.suite.systems[name].harden is not None:
                own = (*begun_with(*self.suite.systems[name].defence), *own)
            changes += own
        try:
            recipe = load_recipe(first, changes)
            refuse_unused(recipe, own)
        except UserError as error:
            raise UserError(f"systems.{system} on the task {task}: {error}") from error
        return recipe

    def _content(self, system: SuiteSystem) -> dict[str, Any]:
        """A system with what its recipe says, so that an edited recipe is noticed, and where files may be moved."""
        content = None if system.recipe is None else to_data(load_recipe(system.recipe))
        defence = dict(zip(("method", "eps"), system.defence, strict=True)) if system.harden is not None else {}
        places = {"recipe": self._as_written(system.recipe), "path": self._as_written(system.path)}
        return {**to_data(system), **places, **defence, "content": content}

    def _as_written(self, path: str | None) -> str | None:
        """A path without the folder of the suite's file."""
        if path is None or self.home is None or not Path(path).is_relative_to(self.home):
            return path
        return Path(path).relative_to(self.home).as_posix()

    def _data(self, task: str) -> str | None:
        """What tells a dataset from another one under the same name, and which of its cases are held out.

        Phantoms are what the suite says.
        """
        if self.suite.tasks[task].phantoms is not None or not self.dataset(task).is_dir():
            return None
        dataset = open_dataset(self.dataset(task))
        split = load_split(dataset, self.suite.fold, self.suite.seed, self.suite.folds)
        sizes = {case.id: [_size(path) for path in files_of(case)] for case in dataset.cases}
        return digest(to_data(dataset.labels), list(dataset.channels), sizes, to_data(split))

    def _before(self, system: str) -> Iterator[str]:
        """The systems that one is hardened from, the nearest first."""
        before = self.suite.systems[system].harden
        while before is not None:
            yield before
            before = self.suite.systems[before].harden


def _size(path: Path) -> int | None:
    """The bytes of a file; None where it is missing, of which the case that has it says so."""
    return path.stat().st_size if path.is_file() else None
