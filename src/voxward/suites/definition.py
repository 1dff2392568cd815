"""A suite as one readable file: tasks, systems, and the protocol by which each system is attacked on each task."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.recipe import Defence
from voxward.core.registry import unknown_name
from voxward.core.yaml import load_yaml, packaged_names
from voxward.training.budget import check_minutes

DATA = "data"
"""The folder of a task's phantoms, beside those of the systems; no system may be called so."""
METHOD = "free"
"""The defence of a hardened system of which the suite says nothing else."""
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}")
_NAMED = "a name of letters, digits and . + - _, of at most 64"


@dataclass(frozen=True)
class PhantomSet:
    """A dataset of phantoms, which the suite writes; see `voxward.write_phantoms`.

    Attributes:
        kind: The kind of phantoms.
        cases: The number of cases.
        seed: The seed of all that is drawn.
        size: The number of voxels along the longest axis; None: that of the kind.
        options: Further options of the kind, such as {modality: ct}.
    """

    kind: str
    cases: int = 25
    seed: int = 0
    size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def every_option(self) -> dict[str, Any]:
        """The options of the kind, the size among them."""
        return {**({} if self.size is None else {"size": self.size}), **self.options}

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        return [] if self.cases >= 2 else [f"cases must be at least 2, got {self.cases}"]


@dataclass(frozen=True)
class Task:
    """A dataset on which every system is trained and attacked.

    Attributes:
        data: The folder of the dataset; one that is not absolute lies in the folder of the datasets.
        phantoms: Phantoms in place of a dataset.
        attacked: How many of the held-out cases are attacked at most, the first ones; None: all.
        time: What every time budget of a system is multiplied by on this task: large patches learn more slowly.
        overrides: Changes of every recipe for this task, each `dotted.key=value`.
    """

    data: str | None = None
    phantoms: PhantomSet | None = None
    attacked: int | None = None
    time: float = 1.0
    overrides: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        found = (
            [] if (self.data is None) != (self.phantoms is None) else ["data or phantoms must be given, and not both"]
        )
        if self.attacked is not None and self.attacked < 1:
            found.append(f"attacked must be at least 1, got {self.attacked}")
        if not 0 < self.time < math.inf:
            found.append(f"time must be above 0, such as 2 for twice the minutes, got {self.time:g}")
        return found


@dataclass(frozen=True)
class SuiteSystem:
    """A system of a suite: a recipe that is trained, another system that is hardened, or a model that is there.

    Attributes:
        recipe: A packaged recipe, or a .yaml file; one that is not absolute lies beside the suite's file.
        harden: The system of the suite that is hardened.
        path: A run, a `system.yaml`, or another tool's model, such as `models/{task}`, in which {task} is the name of
            the task; one that is not absolute lies beside the suite's file.
        method: The defence of a hardened system; None: `free`.
        eps: The radius of that defence, a share of the intensity range; None: 8/255. One that bounds no voxel, such as
            `noise`, has none.
        minutes: The time budget of the training; None: the recipe's epochs.
        attack_minutes: The time budget of the attack on one task. Where an estimate says that all cases take longer, as
            many are attacked as fit, the first ones, and at least one. None: no budget.
        overrides: Changes of the recipe, each `dotted.key=value`; of a `path`, of the system's entries.
        tasks: The tasks that the system takes part in; empty: all.
    """

    recipe: str | None = None
    harden: str | None = None
    path: str | None = None
    method: str | None = None
    eps: float | None = None
    minutes: float | None = None
    attack_minutes: float | None = None
    overrides: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        given = [name for name in ("recipe", "harden", "path") if getattr(self, name) is not None]
        found = (
            []
            if len(given) == 1
            else [f"recipe, harden or path must be given, one of them, got {', '.join(given) or 'none'}"]
        )
        for name in ("minutes", "attack_minutes"):
            try:
                check_minutes(getattr(self, name))
            except UserError as error:
                found.append(f"{name}: {error}")
        if self.harden is not None and self.eps is not None and self.defence[1] is None:
            found.append(f"eps: the method {self.method} does not use it: leave it out")
        if self.path is not None and self.minutes is not None:
            found.append("minutes is the time of a training, and a path is not trained: leave it out")
        defended = [name for name in ("method", "eps") if getattr(self, name) is not None]
        if self.harden is None and defended:
            found.append(
                f"{' and '.join(defended)} would not be used, because only a system with harden is hardened; what is "
                "trained on attacked images from the start has a recipe, and overrides such as defence.method=free"
            )
        return found

    def within(self, task: Task) -> SuiteSystem:
        """Return the system with the time budgets that it has on a task."""
        training, attack = (None if one is None else one * task.time for one in (self.minutes, self.attack_minutes))
        return replace(self, minutes=training, attack_minutes=attack)

    @property
    def defence(self) -> tuple[str, float | None]:
        """Return the method and the radius of a hardened system; None for a method that has no radius."""
        method = METHOD if self.method is None else self.method
        radius = Defence().eps if self.eps is None else self.eps
        return method, None if Defence(method).unused(["eps"]) else radius


@dataclass(frozen=True)
class Suite:
    """Tasks x systems x one protocol.

    Attributes:
        name: The name of the suite.
        tasks: The tasks by name.
        systems: The systems by name.
        description: What it is for, in one line.
        protocol: A packaged protocol, or a .yaml file; one that is not absolute lies beside the suite's file.
        overrides: Changes of the protocol, each `dotted.key=value`.
        fold: The fold that is held out of every dataset, from 0: what is trained here is scored and attacked on it.
        folds: The number of folds of a dataset without splits of its own.
        seed: The seed of the splits and of the trainings.
    """

    name: str
    tasks: Mapping[str, Task]
    systems: Mapping[str, SuiteSystem]
    description: str = ""
    protocol: str = "rog-paper"
    overrides: tuple[str, ...] = ()
    fold: int = 0
    folds: int = 5
    seed: int = 0

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        found = [f"{name} must name at least one" for name in ("tasks", "systems") if not getattr(self, name)]
        names = [("task", name) for name in self.tasks] + [("system", name) for name in self.systems]
        found += [f"{kind} {name!r} needs {_NAMED}" for kind, name in names if not _NAME.fullmatch(name)]
        if DATA in self.systems:
            found.append(f"no system may be called {DATA!r}, the name of the folder of the phantoms")
        for name, system in self.systems.items():
            found += [
                f"systems.{name}.tasks: {unknown_name('task', task, self.tasks)}"
                for task in system.tasks
                if task not in self.tasks
            ]
            found += self._hardening_problems(name)
        return found

    def _hardening_problems(self, name: str) -> list[str]:
        """What is wrong with the systems that one is hardened from."""
        passed = [name]
        while (before := self.systems[passed[-1]].harden) is not None:
            if before not in self.systems:
                return [f"systems.{passed[-1]}.harden: {unknown_name('system', before, self.systems)}"]
            if before in passed:
                return [f"systems.{name}.harden leads back to itself: {', '.join([*passed, before])}"]
            passed.append(before)
        return [
            f"systems.{name} takes part in the task {task!r}, and {passed[1]}, which it hardens, does not"
            for task in self.tasks
            if len(passed) > 1 and self.takes_part(name, task) and not self.takes_part(passed[1], task)
        ]

    def takes_part(self, system: str, task: str) -> bool:
        """Return whether a system takes part in a task."""
        return not self.systems[system].tasks or task in self.systems[system].tasks

    def only(self, tasks: Sequence[str]) -> Suite:
        """Return the suite with some of its tasks, and the systems that take part in them; without any given, with all.

        Raises:
            UserError: One of them is unknown.
        """
        if unknown := [name for name in tasks if name not in self.tasks]:
            raise UserError(unknown_name("task of the suite", unknown[0], self.tasks))
        if not tasks:
            return self
        systems = {name: one for name, one in self.systems.items() if not one.tasks or {*one.tasks} & {*tasks}}
        return replace(self, tasks={name: one for name, one in self.tasks.items() if name in tasks}, systems=systems)


def load_suite(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Read a packaged suite by name, or any suite by path (a name with a `.yaml` suffix).

    Args:
        name_or_path: The name or the path.
        overrides: Changes, each `dotted.key=value` with a YAML value, such as `systems.rog.minutes=30`.

    Raises:
        UserError: The name is unknown, or something in the file is wrong; all problems are listed.
        FileNotFoundError: There is no such file.
    """
    suite = load_yaml(Suite, name_or_path, "suites", overrides)
    if not str(name_or_path).endswith((".yaml", ".yml")):
        return suite
    beside = Path(name_or_path).absolute().parent
    systems = {
        name: replace(one, recipe=_beside(beside, one.recipe), path=_beside(beside, one.path, any_path=True))
        for name, one in suite.systems.items()
    }
    protocol = _beside(beside, suite.protocol)
    assert protocol is not None
    return replace(suite, systems=systems, protocol=protocol)


def suite_names() -> tuple[str, ...]:
    """Return the names of the packaged suites."""
    return packaged_names("suites")


def _beside(folder: Path, given: str | None, any_path: bool = False) -> str | None:
    """A path in the folder of the suite's file; a name of something packaged stays one."""
    if given is None or not (any_path or given.endswith((".yaml", ".yml"))):
        return given
    return str(folder / given)
