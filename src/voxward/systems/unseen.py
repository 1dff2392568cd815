"""Which cases of a dataset systems are scored on: those that no part of them is known to have been trained on."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from voxward.core.case import Dataset
from voxward.core.choices import Cases
from voxward.core.progress import Progress, silent
from voxward.runs.foreign import Beside, Foreign
from voxward.runs.unseen import Scope, scope_of, undecided
from voxward.systems.system import System


@runtime_checkable
class KnowsItsCases(Protocol):
    """A system of another tool that says which cases it was trained on; a kind that cannot say so leaves this out."""

    def training(self) -> Foreign:
        """Return what the system says about the cases that it was trained on."""
        ...


@runtime_checkable
class HasParts(Protocol):
    """A system that consists of others."""

    @property
    def parts(self) -> Sequence[System]:
        """The systems inside."""
        ...


def scope_for(
    systems: Sequence[System],
    dataset: Dataset,
    cases: Cases = Cases(),
    count: int | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> Scope:
    """Choose the cases that systems are scored on or attacked on; see `runs.unseen.scope_of`.

    Args:
        systems: The systems: runs, and models of other tools.
        dataset: The dataset.
        cases: Which part of it, and whether cases that were seen in training are scored as well.
        count: How many cases are wanted, of which the first are taken; None takes all.
        workers: How many cases are read at once.
        progress: A function that is told about every case that is read.

    Raises:
        UserError: There is no such case, or the labels are not the models'.
    """
    runs = [run for system in systems for run in system.runs]
    others = [foreign for system in systems for foreign in foreign_of(system)]
    return scope_of(runs, dataset, cases, count, workers, progress, others)


def needed_for(
    systems: Sequence[System], dataset: Dataset, cases: Cases, count: int | None, absent: Container[str]
) -> list[str]:
    """Return the cases that `scope_for` chooses; before that, those that its choice depends on.

    Args:
        systems: The systems.
        dataset: The dataset, some of whose files need not be there.
        cases: Which part of it, and whether cases that were seen in training count as well.
        count: How many cases are wanted; None takes all.
        absent: The ids of the cases whose files are not there.

    Returns:
        Their ids. Where the files of all are there, `scope_for` reads no others.

    Raises:
        UserError: There is no such case, or the labels are not the models'.
    """
    runs = [run for system in systems for run in system.runs]
    others = [foreign for system in systems for foreign in foreign_of(system)]
    return undecided(runs, dataset, others, absent) or [*scope_for(systems, dataset, cases, count).ids]


def training_is_known(system: System, dataset: Dataset) -> bool:
    """Return whether a system says which cases of a dataset it was trained on, so that those can be left out.

    Args:
        system: The system. A run of voxward says it by the images; a model of another tool by the ids of its cases.
        dataset: The dataset.
    """
    return all(Beside(foreign, dataset).same for foreign in foreign_of(system))


def foreign_of(system: System) -> tuple[Foreign, ...]:
    """Return what the models of other tools in a system say about their training; one that says nothing counts, too.

    Args:
        system: The system, which may be such a model, or hold some, or consist of runs of voxward alone.
    """
    if isinstance(system, KnowsItsCases):
        return (system.training(),)
    if isinstance(system, HasParts):
        inside = [foreign for part in system.parts for foreign in foreign_of(part)]
        # What is scored are the classes of the whole, which those of a part may not be.
        return tuple(replace(foreign, labels=system.labels) for foreign in inside)
    return () if system.runs else (Foreign(system.name, system.labels),)
