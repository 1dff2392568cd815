"""What an attack was to do and has not done: its units are planned again from what the folder says about itself."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.wording import counted
from voxward.report.source_files import few
from voxward.robustness.description import SystemFiles
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.skipped import Skipped
from voxward.robustness.subject import labels_under_attack
from voxward.robustness.trials import plan_trials
from voxward.robustness.trials.transfer import TRANSFER
from voxward.robustness.trials.trial import Target, Trial, batches_of
from voxward.robustness.unit import Unit


@dataclass(frozen=True)
class Planned:
    """The units of an attack.

    Attributes:
        finished: How many have a result that can be read, or mean nothing on their case.
        lacking: The other ones.
        attacks: How many attacks there are on each system.
    """

    finished: int
    lacking: tuple[Unit, ...]
    attacks: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many units there are."""
        return self.finished + len(self.lacking)


def planned(
    protocol: Protocol,
    systems: Mapping[str, SystemFiles],
    cases: Sequence[str],
    records: Sequence[Record],
    skipped: Collection[Skipped] = (),
) -> Planned | None:
    """Return which units of an attack are finished; None where they cannot be planned without the systems.

    Args:
        protocol: How robustness is measured.
        systems: What is known of each system, by its name.
        cases: The ids of the cases that did not fail, in their order.
        records: What is there.
        skipped: What means nothing on a case.
    """
    try:
        units = [unit for name, files in systems.items() for unit in _units(protocol, name, files, cases, records)]
    except UserError:
        return None
    sized = {(one.model, one.attack, one.case, one.eps, one.seed, _samples(one)) for one in records}
    done = {(model, attack, case, seed) for model, attack, case, _, seed, _ in sized}
    left_out = {(one.model, one.attack, one.case, one.eps) for one in skipped}

    def finished(unit: Unit) -> bool:
        own = unit.model, unit.attack, unit.case
        there = (*own, unit.seed) in done if unit.eps is None else (*own, unit.eps, unit.seed, unit.samples) in sized
        return there or (*own, unit.eps) in left_out

    lacking = tuple(unit for unit in units if not finished(unit))
    names = {(unit.model, unit.attack) for unit in units if unit.attack not in {CLEAN, *protocol.controls}}
    return Planned(len(units) - len(lacking), lacking, Counter(model for model, _ in names))


def _samples(record: Record) -> tuple[int, int] | None:
    return None if record.noisy is None else record.noisy.samples


def unfinished_text(folder: Path, plan: Planned) -> str:
    """Return how many units are finished, what is missing on which cases, and what to do; empty where nothing is.

    Args:
        folder: The folder of the attack.
        plan: Its units.
    """
    if not plan.lacking:
        return ""
    are = "is" if plan.finished == 1 else "are"
    lead = f"{plan.finished} of {counted(plan.total, 'unit')} of work in {folder} {are} finished: give the same command"
    return f"{lead} again to go on. Not finished: {'; '.join(_lacking(plan.lacking))}"


def _lacking(units: Sequence[Unit]) -> Iterator[str]:
    """What is missing, with the cases; trials that lack the same cases share a part of the sentence."""
    several = len({unit.model for unit in units}) > 1
    cases = defaultdict[str, dict[str, None]](dict)
    for unit in units:
        cases[f"{unit.attack} ({unit.model})" if several else unit.attack][unit.case] = None
    trials = defaultdict[tuple[str, ...], list[str]](list)
    for trial, ids in cases.items():
        trials[tuple(ids)].append(trial)
    for lacked, names in trials.items():
        yield f"{', '.join(names)} on {counted(len(lacked), 'case')} ({few(lacked)})"


def _units(
    protocol: Protocol, model: str, files: SystemFiles, cases: Sequence[str], records: Sequence[Record]
) -> Iterator[Unit]:
    labels = labels_under_attack(files.labels, protocol.erase, protocol.invent)
    target = Target(protocol, labels, _transferred(protocol, model, records))
    for trial in plan_trials(target).values():
        seeds = protocol.seeds if trial.repeated else protocol.seeds[:1]
        for number in range(len(cases)):
            for eps in trial.sizes(number):
                for seed in seeds:
                    unit = Unit(model, trial.name, _place(trial, cases, number, model, records), eps, seed)
                    yield from (replace(unit, samples=samples) for samples in batches_of(trial))


def _place(trial: Trial, cases: Sequence[str], number: int, model: str, records: Sequence[Record]) -> str:
    """The case of a unit; what is done on the first cases only stays where it was done, if they are no longer first."""
    if trial.sizes(len(cases)):
        return cases[number]
    found = dict.fromkeys(one.case for one in records if (one.model, one.attack) == (model, trial.name))
    return [*found, *(case for case in cases if case not in found)][number]


def _transferred(protocol: Protocol, model: str, records: Sequence[Record]) -> bool:
    """Whether a surrogate's volumes are tried on a system; the surrogate is not tried on itself."""
    known = {one.model for one in records if one.attack == TRANSFER}
    return protocol.surrogate is not None and (model in known or (not known and model != Path(protocol.surrogate).name))
