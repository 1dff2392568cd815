"""Means over the tasks of a suite: each task counts once, whatever the number of its cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from voxward.metrics.summary import Summary, summarise
from voxward.report.spent import found_and_spent
from voxward.report.suite.source import SuiteSource, TaskResults
from voxward.report.text import UNDEFINED, number_text
from voxward.robustness.eps import SAME_EPS, eps_texts
from voxward.robustness.phantom import dice_warnings
from voxward.robustness.summary import View

Reading = Callable[[View, str, float], float | None]
"""Returns a figure of a system at a size of the perturbation; None where there is none."""


@dataclass(frozen=True)
class Averaged:
    """Figures of one suite that are averaged over its tasks.

    Attributes:
        source: The suite.
    """

    source: SuiteSource

    @property
    def tasks(self) -> tuple[TaskResults, ...]:
        """The tasks with results of attacks whose Dice counts."""
        return tuple(
            task for task in self.source.tasks if task.view is not None and not dice_warnings(task.view.records)
        )

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems with results of attacks, in the order of the suite."""
        return tuple(name for name in self.source.systems if any(name in task.attacked for task in self.tasks))

    @property
    def eps(self) -> tuple[float, ...]:
        """The sizes of all tasks, ascending."""
        found = list[float]()
        for size in sorted(eps for task in self.tasks if task.view is not None for eps in task.view.eps if eps):
            if not found or size - found[-1] >= SAME_EPS:
                found.append(size)
        return tuple(found)

    def eps_text(self, eps: float) -> str:
        """Return a size as text, such as 8/255."""
        views = [task.view for task in self.tasks if task.view is not None]
        return eps_texts(views[0].records)(eps) if views else f"{eps:g}"

    @property
    def swept(self) -> frozenset[str]:
        """The attacks that are further budgets of another one: they have a table of their own."""
        return frozenset(
            name
            for task in self.tasks
            for sweep in task.swept
            for name in sweep.members
            if name != (sweep.attack if sweep.attack in sweep.members else list(sweep.members)[-1])
        )

    def attacks(self, extra: bool = False) -> tuple[str, ...]:
        """Return the names of the attacks, sorted; further budgets only where asked for."""
        names = dict.fromkeys(
            record.attack
            for task in self.tasks if task.view is not None
            for record in task.view.records if record.kind == "attack"
        )  # fmt: skip
        return tuple(sorted(name for name in names if extra or name not in self.swept))

    def mean(self, system: str, eps: float, reading: Reading, worst: bool = False) -> Summary | None:
        """Return the mean over tasks of a system's figure, with the spread over tasks.

        Args:
            system: The system.
            eps: The size.
            reading: Reads the figure of one task.
            worst: Whether it is read of worst cases over the protocol's attacks.
        """
        values = [
            reading(view, system, eps)
            for task in self.tasks
            if system in task.attacked and (view := task.worst if worst else task.view) is not None
        ]
        return summarise([value for value in values if value is not None])

    def course(self, system: str, reading: Reading, worst: bool = False) -> dict[float, Summary | None]:
        """Return the means of a system at every size, from the clean Dice at 0 on, all of them over the same tasks.

        Not every attack is run on every task: some know only two classes, others only more than two. So these are the
        tasks that have a figure at every size.

        Args:
            system: The system.
            reading: Reads the figure of one task.
            worst: Whether it is read of worst cases over the protocol's attacks.
        """
        rows = list[list[float]]()
        for task in self.tasks:
            view = task.worst if worst else task.view
            if view is not None and system in task.attacked:
                found = [clean(view, system, 0.0), *(reading(view, system, eps) for eps in self.eps)]
                known = [value for value in found if value is not None]
                rows += [known] if len(known) == len(found) else []
        columns = list(zip(*rows, strict=True)) if rows else [()] * (1 + len(self.eps))
        return {eps: summarise(column) for eps, column in zip((0.0, *self.eps), columns, strict=True)}

    def unequal(self) -> Iterator[str]:
        """Yield a sentence where means are not over all tasks, or over different ones, so that they do not compare."""
        yield from (f"{task.name} is in no mean: {text}" for task in self.source.tasks for text in _invented(task))
        yield from different_tasks({
            name: [task.name for task in self.tasks if name in task.attacked] for name in self.systems
        })  # fmt: skip


def spread_text(over: Summary | None) -> str:
    """Return the standard deviation over tasks as text; of fewer than two there is none.

    Args:
        over: The summary over tasks.
    """
    return number_text(over.std) if over is not None and over.n > 1 else UNDEFINED


def different_tasks(tasks: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a sentence where the means of systems are over different tasks.

    Args:
        tasks: The names of the tasks of each system that has a mean.
    """
    if len({tuple(names) for names in tasks.values()}) > 1:
        told = "; ".join(f"{name}: {', '.join(names)}" for name, names in tasks.items())
        yield f"the means of the systems are over different tasks, and do not compare: {told}"


def figures_notes(averaged: Averaged) -> Iterator[str]:
    """Yield what figures of attacks are of, which the table of clean Dice is not.

    Args:
        averaged: The means over tasks.
    """
    if any(record.mode == "patch" for task in averaged.tasks if task.view is not None for record in task.view.records):
        yield "Dice in one window of each case, and not of the whole volume as in the table of clean Dice"
    yield "a case in which no class is defined counts 1, and is left out of the table of clean Dice"


def _invented(task: TaskResults) -> tuple[str, ...]:
    return () if task.view is None else dice_warnings(task.view.records)


def clean(view: View, system: str, eps: float) -> float | None:
    """Return the mean clean Dice of a system over the attacked cases of a task; `eps` does not matter."""
    return view.mu(system)


def worst_case(view: View, system: str, eps: float) -> float | None:
    """Return the mean worst-case Dice of a system on a task."""
    found = view.robust_dice(system, _nearest(view.eps, eps))
    return None if found is None else found.mean


def under(attack: str) -> Reading:
    """Return what reads the mean Dice under one attack alone.

    Args:
        attack: The name of the attack.
    """

    def read(view: View, system: str, eps: float) -> float | None:
        summary, _ = found_and_spent(view, system, attack, _nearest(view.eps, eps))
        return None if summary is None else summary.mean

    return read


def _nearest(sizes: Sequence[float], eps: float) -> float:
    return next((size for size in sizes if abs(size - eps) < SAME_EPS), eps)
