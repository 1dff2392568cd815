"""What a report reads of the folder of a suite: the figures of every task, and the cells that failed."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from voxward.core.errors import Failure, UserError
from voxward.core.structure import from_data
from voxward.core.wording import counted
from voxward.metrics.registry import PRIMARY
from voxward.metrics.summary import Summary, summarise
from voxward.report.attack_source import AttackSource, read_attack
from voxward.report.benchmark import comparable
from voxward.report.seen import seen_notes
from voxward.report.source_files import attempt, read_mapping
from voxward.robustness.case_certificate import CaseCertificate
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.summary import View
from voxward.robustness.sweep import Sweep, sweeps
from voxward.suites.definition import Suite
from voxward.suites.notes import FAILED, Note, Notes
from voxward.suites.plan import ATTACK, SCORE, SUITE, SuitePlan, Unit
from voxward.systems.evaluate import Evaluation


@dataclass(frozen=True)
class TaskResults:
    """The figures of one task.

    Attributes:
        name: The name of the task.
        what: Its dataset or phantoms, in words.
        dice: The clean Dice of each system over the held-out cases that all systems were scored on, by its name.
        view: The records of all systems whose attack is finished, over the cases that they have in common; None where
            there is none.
        attacks: The attacks over which worst cases are taken: the last group of attacks of each system; None: all.
        swept: The attacks that were run with several budgets.
        certificates: What was certified of the systems in `view`, on its cases.
        notes: What must be known of the figures, a sentence each.
        scored: What must be known before the clean Dice is believed, a sentence each.
        doubts: What must be known before the figures of an attack are believed, such as the checks that failed, a
            sentence each.
    """

    name: str
    what: str = ""
    dice: Mapping[str, Summary] = field(default_factory=dict)
    view: View | None = None
    attacks: tuple[str, ...] | None = None
    swept: tuple[Sweep, ...] = ()
    certificates: tuple[CaseCertificate, ...] = ()
    notes: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def attacked(self) -> tuple[str, ...]:
        """The systems whose attack is finished."""
        return () if self.view is None else self.view.models

    @property
    def cases(self) -> int:
        """How many cases every system was attacked on."""
        return 0 if self.view is None else len({record.case for record in self.view.records if record.attack == CLEAN})

    @property
    def worst(self) -> View | None:
        """The records, read as worst cases over the protocol's attacks."""
        return None if self.view is None else self.view.over(self.attacks)


@dataclass(frozen=True)
class SuiteSource:
    """The folder of `voxward suite`.

    Attributes:
        folder: The folder.
        systems: The names of all systems, in the order of the suite.
        tasks: The figures of every task.
        failed: The cells that failed, as `task, system`, with the reason.
        missing: The cells that are not finished, as `task, system`.
        absent: The cells that the suite leaves out, because the system takes no part in the task.
        description: What the suite is for.
        name: What the page calls it; empty: the name of the folder.
    """

    folder: Path
    systems: tuple[str, ...] = ()
    tasks: tuple[TaskResults, ...] = ()
    failed: tuple[Failure, ...] = ()
    missing: tuple[str, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    description: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.folder.resolve().name)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be known before any figure is believed: the cells that failed, and those that are not finished."""
        failed = [f"failed, and in no figure: {one.case} ({one.reason})" for one in self.failed]
        return (*failed, *([f"not finished: {'; '.join(self.missing)}"] if self.missing else []))

    @property
    def scored(self) -> tuple[str, ...]:
        """The warnings, and what must be known before a clean Dice is believed."""
        return (*self.warnings, *(text for task in self.tasks for text in task.scored))

    @property
    def doubts(self) -> tuple[str, ...]:
        """The warnings, and the checks that failed, before any figure of an attack is believed."""
        return (*self.warnings, *(text for task in self.tasks for text in task.doubts))


def is_suite_folder(folder: Path) -> bool:
    """Return whether a folder is that of a suite."""
    return (folder / SUITE).is_file()


def read_suite(folder: Path, problems: list[str]) -> SuiteSource:
    """Read the folder of a suite.

    Args:
        folder: The folder.
        problems: Gets a sentence for everything that is missing, damaged or unknown.
    """
    settings = read_mapping(folder / SUITE, problems)
    plan = None if settings is None else attempt(lambda: _plan(folder, settings), problems)
    if plan is None or settings is None:
        return SuiteSource(folder)
    protocol = attempt(lambda: from_data(Protocol, settings.get("protocol"), str(folder / SUITE)), problems)
    cells = _Cells()
    for cell in plan.cells:
        _read_state(plan, cell, cells, problems)
    tasks = tuple(_task(plan, protocol, name, cells, problems) for name in plan.suite.tasks)
    absent = tuple(
        (task, system) for task in plan.suite.tasks for system in plan.suite.systems
        if (task, system) not in plan.cells
    )  # fmt: skip
    return SuiteSource(
        folder, tuple(plan.suite.systems), tasks, tuple(cells.failed), tuple(cells.missing), absent,
        plan.suite.description,
    )  # fmt: skip


@dataclass
class _Cells:
    """What was read of all cells. remarks: what the notes of a cell say of its figures."""

    failed: list[Failure] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    done: set[Unit] = field(default_factory=set)
    remarks: dict[Unit, str] = field(default_factory=dict)


def _plan(folder: Path, settings: Mapping[str, Any]) -> SuitePlan:
    """The suite as the folder describes it; its datasets are not looked for."""
    tasks, systems = dict[str, Any](), dict[str, Any]()
    for key, entry in dict(settings.get("entries") or {}).items():
        kind, _, name = str(key).partition("/")
        known = {"tasks": tasks, "systems": systems}.get(kind)
        if known is None or not isinstance(entry, Mapping):
            raise UserError(f"{folder / SUITE} must hold tasks and systems, got {key!r}")
        known[name] = {part: value for part, value in entry.items() if part != "content"}
    systems = {name: one for name, entry in systems.items() if (one := _taking_part(entry, tasks)) is not None}
    data = {"name": settings.get("name"), "description": settings.get("description", ""), "tasks": tasks,
            "systems": systems}  # fmt: skip
    return SuitePlan(from_data(Suite, data, str(folder / SUITE)), folder, folder)


def _taking_part(system: Mapping[str, Any], tasks: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A system with those of its tasks that the folder was begun with; None where it takes part in none of them."""
    named = [task for task in system.get("tasks") or () if task in tasks]
    return None if system.get("tasks") and not named else {**system, "tasks": named}


def _read_state(plan: SuitePlan, cell: tuple[str, str], cells: _Cells, problems: list[str]) -> None:
    """Note how the stages of a cell ended: the first one that failed is the reason for the others.

    One that is done and whose results are gone is not finished.
    """
    units, notes = [unit for unit in plan.units if unit.cell == cell], Notes(plan.root)
    read: dict[Unit, Note | None] = {unit: attempt(partial(notes.read, unit), problems) for unit in units}
    found = {
        unit: note if note is None or note.state == FAILED or plan.there(unit) else None for unit, note in read.items()
    }
    cells.done |= {unit for unit, note in found.items() if note is not None and note.state != FAILED}
    cells.remarks |= {unit: note.remark for unit, note in found.items() if note is not None and note.remark}
    reasons = [f"{unit.stage}: {note.reason}" for unit, note in found.items() if note and note.state == FAILED]
    if reasons:
        cells.failed.append(Failure(", ".join(cell), reasons[0]))
    elif any(note is None for note in found.values()):
        cells.missing.append(", ".join(cell))


def _task(
    plan: SuitePlan, protocol: Protocol | None, task: str, cells: _Cells, problems: list[str]
) -> TaskResults:  # fmt: skip
    systems = [system for name, system in plan.cells if name == task]
    dice, scored, notes = _clean(plan, task, systems, cells, problems)
    attacked, doubts = _attacks(plan, task, systems, cells, problems)
    told = {unit: text for unit, text in cells.remarks.items() if unit.task == task and unit.stage != SCORE}
    notes += [f"{task}, {unit.system}: {text}" for unit, text in told.items()]
    notes += [f"{task}, {system}: {text}" for system, source in attacked.items() for text in _remarks(source)]
    alike, unlike = _alike({system: source.records for system, source in attacked.items() if source.records})
    records, dropped, different = _common(alike)
    doubts += [f"{task}, {text}" for text in unlike] + [f"{task}: {text}" for text in different]
    notes += [f"{task}: {text}" for text in dropped]
    view = attempt(lambda: comparable(records), problems) if records else None
    swept = tuple[Sweep, ...]()
    if view is not None and protocol is not None:
        swept = sweeps(protocol, max(len(record.classes) for record in records) + 1)
    # Each attack says itself which groups it had: a network of regions has others than one of as many classes.
    last = [[*source.ensembles.values()][-1] for name, source in attacked.items() if name in alike and source.ensembles]
    group = tuple(dict.fromkeys(name for names in last for name in names)) or None
    return TaskResults(
        task, _what(plan, task), dice, view, attacks=group, swept=swept,
        certificates=_certificates({name: attacked[name] for name in alike}, {record.case for record in records}),
        notes=tuple(notes), scored=tuple(scored), doubts=tuple(doubts),
    )  # fmt: skip


def _clean(
    plan: SuitePlan, task: str, systems: Sequence[str], cells: _Cells, problems: list[str]
) -> tuple[dict[str, Summary], list[str], list[str]]:
    """The clean Dice of each system over the held-out cases that all were scored on, and what must be known of it."""
    found, said = dict[str, Evaluation](), list[str]()
    for system in systems:
        unit, lost = Unit(task, system, SCORE), list[str]()
        if unit not in cells.done:
            continue
        scores = _evaluation(plan.folder(task, system) / "metrics.json", lost)
        problems += lost
        said += [f"{task}, {system}: in no figure of clean Dice: {text}" for text in lost]
        said += [f"{task}, {system}: {cells.remarks[unit]}"] if unit in cells.remarks else []
        if scores is not None:
            found[system] = scores
    if len({tuple(one.classes) for one in found.values()}) > 1:
        told = "; ".join(f"{name}: {', '.join(one.classes)}" for name, one in found.items())
        said.append(f"{task}: the systems are scored on different classes, and do not compare: {told}")
    cases = {name: {case.id for case in one.cases} for name, one in found.items()}
    common, fewer = _in_common(cases, "scored")
    if not common and len(cases) > 1:
        return {}, [*said, f"{task}: {', '.join(cases)} were scored on different cases, and are not compared"], []
    notes = [f"{task}: clean Dice on {text}" for text in fewer]
    means = {
        name: summarise([case.mean(PRIMARY) for case in one.cases if case.id in common]) for name, one in found.items()
    }
    return {name: one for name, one in means.items() if one is not None}, said, notes


def _attacks(
    plan: SuitePlan, task: str, systems: Sequence[str], cells: _Cells, problems: list[str]
) -> tuple[dict[str, AttackSource], list[str]]:
    """The attacks that are finished, and why they must not be believed."""
    found, doubts = dict[str, AttackSource](), list[str]()
    for system in systems:
        if Unit(task, system, ATTACK) not in cells.done:
            continue
        lost = list[str]()
        found[system] = read_attack(plan.attack_folder(task, system), lost)
        problems += lost
        doubts += [f"{task}, {system}: {text}" for text in (*lost, *_doubts(found[system]))]
    return found, doubts


def _evaluation(path: Path, problems: list[str]) -> Evaluation | None:
    found = read_mapping(path, problems)
    return None if found is None else attempt(lambda: Evaluation.from_data(found, str(path)), problems)


def _alike(by_system: Mapping[str, Sequence[Record]]) -> tuple[dict[str, Sequence[Record]], list[str]]:
    """The systems whose records stand in one table, and why others do not, such as a model with other classes."""
    found, unlike = dict[str, Sequence[Record]](), list[str]()
    for name, own in by_system.items():
        try:
            comparable([record for records in (*found.values(), own) for record in records])
        except UserError as error:
            unlike.append(f"{name} is in no figure of attacks: {error}")
        else:
            found[name] = own
    return found, unlike


def _common(by_system: Mapping[str, Sequence[Record]]) -> tuple[tuple[Record, ...], list[str], list[str]]:
    """The records of the cases that every system was attacked on, so that means are over the same cases.

    Returns:
        The records; what is said where there are fewer cases than some system has; and where there are none.
    """
    cases = {name: {record.case for record in own if record.attack == CLEAN} for name, own in by_system.items()}
    common, fewer = _in_common(cases, "attacked")
    if not common and len(cases) > 1:
        return (), [], [f"{', '.join(cases)} were attacked on different cases, and are not compared"]
    records = tuple(
        replace(record, model=name) for name, own in by_system.items() for record in own if record.case in common
    )
    return records, [f"compared on {text}" for text in fewer], []


def _certificates(by_system: Mapping[str, AttackSource], cases: Container[str]) -> tuple[CaseCertificate, ...]:
    """The certificates of the cases in common, under the names of the suite's systems."""
    return tuple(
        replace(one, model=name) for name, source in by_system.items() for one in source.certificates
        if one.case in cases
    )  # fmt: skip


def _in_common(cases: Mapping[str, set[str]], how: str) -> tuple[set[str], list[str]]:
    """The cases that all systems have; and what is said where some have more."""
    common = set.intersection(*cases.values()) if cases else set[str]()
    fewest, most = (least(map(len, cases.values()), default=0) for least in (min, max))
    told = f"the {counted(len(common), 'case')} that all systems were {how} on, of {fewest} to {most}"
    return common, [told] if len(common) < most else []


def _doubts(source: AttackSource) -> list[str]:
    """The checks of one attack that failed."""
    return [f"NOT TRUSTWORTHY ({one.name}): {one.text}" for one in source.findings if one.passed is False]


def _remarks(source: AttackSource) -> list[str]:
    """What is to be known of the cases of one attack."""
    lost = [f"{counted(len(source.failed), 'case')} failed in the attack"] if source.failed else []
    return [*lost, *seen_notes(source.case_ids, source.seen, source.left_out)]


def _what(plan: SuitePlan, task: str) -> str:
    entry = plan.suite.tasks[task]
    if entry.phantoms is None:
        return str(entry.data)
    made = entry.phantoms
    options = [f"{name} {value}" for name, value in made.every_option.items()]
    return ", ".join([f"{counted(made.cases, f'{made.kind} phantom')}", *options, f"seed {made.seed}"])
