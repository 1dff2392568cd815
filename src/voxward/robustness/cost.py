"""What a benchmark costs before it begins: seconds of its units from short trials, and the time that workers need."""

from __future__ import annotations

import heapq
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from voxward.attacks.budget import Budget
from voxward.core.devices import kind_of
from voxward.core.errors import UserError
from voxward.core.progress import SEPARATOR, Progress, silent
from voxward.data.io import read_header
from voxward.data.orient import orientation
from voxward.data.volume_file import affine_fault
from voxward.engine.queue import UnitQueue
from voxward.robustness.bench import Bench, Worker
from voxward.robustness.estimate import passes
from voxward.robustness.record import DOUBLED
from voxward.robustness.skipped import NotApplicable
from voxward.robustness.store import RecordStore
from voxward.robustness.trials.attack import AttackTrial, within_budget
from voxward.robustness.trials.reach import REACH
from voxward.robustness.trials.trial import batches_of
from voxward.robustness.unit import Unit
from voxward.systems.run import RunSystem
from voxward.systems.system import System

# For the pace of an attack, in which its beginning must not weigh much; and for whether it ends at once.
_SHORT = Budget(steps=3, restarts=1, queries=60, fab_steps=2)
_BRIEF = Budget(steps=3, restarts=1, queries=20, fab_steps=1)
# An attack ends where nothing is left, on weak systems often at once. That is tried on so many cases.
_CASES = 4
# The check at eps 1 ends as soon as nothing is left, in about this share of its steps. It is tried to its end where it
# weighs more than _HEAVY of all forward passes, as in a protocol of few cases.
_REACH, _HEAVY = 0.35, 0.05
STAGE = "short trials"
"""The name that progress is reported under."""
# A unit of runs under noise is tried with these runs only, as each takes as long as the next.
_FEW_RUNS = (0, 2)

Group = tuple[str, str]
"""A system and a case."""
Ends = Mapping[float, Mapping[str, float]]
"""By the size of the perturbation and by case, the forward passes after which nothing was left."""


@dataclass(frozen=True)
class Estimate:
    """What the units of a benchmark cost on workers like this process.

    Attributes:
        phases: The rounds of units that must wait for each other, each with the seconds of every unit.
        begins: For each system and case, the seconds until a worker has read and judged the clean case.
        opens: For each system, the seconds until another process has opened it.
        gpu: Whether a GPU computes.
        workers: The number of workers that was asked for; None where it is not known.
    """

    phases: tuple[Mapping[Unit, float], ...]
    begins: Mapping[Group, float] = field(default_factory=dict)
    opens: Mapping[str, float] = field(default_factory=dict)
    gpu: bool = False
    workers: int | None = 1

    @property
    def hours(self) -> float:
        """Return the hours that one process needs for all units."""
        return self.wall_hours(1)

    @property
    def kind(self) -> str:
        """Return what is counted in hours."""
        return "GPU-hours" if self.gpu else "CPU-hours"

    def wall_hours(self, workers: int) -> float:
        """Return the hours until the last unit is done, where workers share the units as `engine.queue` lets them.

        Args:
            workers: The number of workers.

        Raises:
            UserError: The number is below 1.
        """
        if workers < 1:
            raise UserError(f"workers must be at least 1, got {workers}")
        # Where there are several, each is a process of its own, which has opened no system yet.
        opened = {str(n): set(self.opens if workers == 1 else ()) for n in range(workers)}
        held, now = dict[str, Group](), 0.0
        for units in self.phases:
            queue, free = UnitQueue(units, _group), [(now, name) for name in opened]
            while len(queue):
                at, name = heapq.heappop(free)
                unit = queue.take(name)
                assert unit is not None
                group = _group(unit)
                at += 0.0 if held.get(name) == group else self.begins.get(group, 0.0)
                at += 0.0 if unit.model in opened[name] else self.opens.get(unit.model, 0.0)
                held[name] = group
                opened[name].add(unit.model)
                heapq.heappush(free, (at + units[unit], name))
            now = max(at for at, _ in free)
        return now / 3600


def estimate(
    worker: Worker, workers: int | None = 1, *, early_ends: bool = True, progress: Progress = silent
) -> Estimate:
    """Estimate what a benchmark costs, from one short trial of each kind per system, on a case of middle size.

    An attack is tried with a small budget, and the seconds that its forward passes and gradients took are those of its
    whole budget. Cases of other sizes count by their windows where the system is a single run, else by their voxels.
    An attack ends where nothing is left: on a few cases a short attack of each size, with and without gradients, tells
    where that comes at once. That it comes later, within the budget, is not foreseen.

    Args:
        worker: The benchmark, with its systems open. Nothing is written into its folders.
        workers: The number of workers that are to share the units; None where it is not known.
        early_ends: Whether it is tried where attacks end early. False counts every attack with its whole budget, which
            is quicker to find out, and the only answer for a system that is not trained yet.
        progress: Told about the short trials.
    """
    bench, tried = worker.bench, dict[str, _Tried]()
    ends = min(len(bench.cases), _CASES + 1) if early_ends else 0
    tries = {model: sum(len(eps) for _, eps in _kinds(bench, model)) for model in bench.sources}
    count = sum(len(bench.trials(model)) + ends * tries[model] for model in bench.sources)
    told = _Told(progress, count)
    for model in bench.sources:
        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a short attack is worse than the real one, and says so
            tried[model] = _tried(worker, model, Path(place), early_ends, told)
    progress(STAGE, count, count)
    rounds = ([*bench.first_units()], [*bench.units()], [*bench.last_units()])
    return Estimate(
        phases=tuple({unit: tried[unit.model].seconds(unit) for unit in units} for units in rounds),
        begins={(model, id): one.begin * one.sizes[id] for model, one in tried.items() for id in bench.cases},
        opens={model: one.opening for model, one in tried.items()},
        gpu=any(not kind_of(worker.system(model).device).host for model in bench.sources), workers=workers,
    )  # fmt: skip


@dataclass(frozen=True)
class _Tried:
    """What the trials of one system take.

    Attributes:
        begin: The seconds until a worker has read the case and judged it.
        opening: The seconds until another process has opened the system.
        per_pass: For each trial the seconds of a forward pass, on the case that was tried.
        judging: For each trial the seconds of judging and writing what it found.
        whole: For each trial the forward passes of its whole budget.
        ends: For each trial that ends where nothing is left, and for each size and case that was tried: the passes
            after which that came; infinite where it did not.
        sizes: The size of each case, in that of the case that was tried.
    """

    begin: float
    opening: float
    per_pass: Mapping[str, float]
    judging: Mapping[str, float]
    whole: Mapping[str, float]
    ends: Mapping[str, Ends]
    sizes: Mapping[str, float]

    def seconds(self, unit: Unit) -> float:
        """Return how long a unit takes: on a case that was not tried, what it takes in the mean of those that were."""
        name = unit.attack
        ends = self.ends.get(name, {}).get(unit.eps or 0.0, {})
        known = [ends[unit.case]] if unit.case in ends else [*ends.values()] or [math.inf]
        made = statistics.fmean(min(one, self.whole[name]) for one in known)
        return (made * self.per_pass[name] + self.judging[name]) * self.sizes[unit.case]


@dataclass(frozen=True)
class _Spent:
    """What a short trial took: the seconds of a forward pass, of judging and writing, and how many passes it made."""

    per_pass: float
    judging: float
    passes: float


class _Told:
    """Reports on short trials, each when it begins."""

    def __init__(self, progress: Progress, count: int) -> None:
        self.progress, self.count, self.begun = progress, count, 0

    def begin(self, unit: Unit) -> None:
        self.progress(
            STAGE, self.begun, self.count, running=SEPARATOR.join((unit.model, f"case {unit.case}", unit.attack))
        )
        self.begun += 1


def _tried(worker: Worker, model: str, place: Path, early_ends: bool, told: _Told) -> _Tried:
    bench, sizes = worker.bench, _sizes(worker, model)
    case = sorted(sizes, key=lambda id: sizes[id])[len(sizes) // 2]
    told.progress(STAGE, told.begun, told.count, running=f"{model} is opened")
    opening = _seconds(bench.sources[model].open)
    short, brief = (
        Worker(_within(bench, place, budget), dict(worker.systems), worker.surrogate) for budget in (_SHORT, _BRIEF)
    )
    short.stand(model, case)  # the first one warms up, and asks whether the system is random
    short.forget()
    begin = _seconds(lambda: short.stand(model, case))
    whole = _whole(bench, model)
    total = sum(whole[unit.attack] for unit in _units(bench, model))
    spent = {
        name: found
        for name in whole
        if (name != REACH or whole[name] > _HEAVY * total)
        and (found := _spent(short, _unit(bench, model, name, case), place, told)) is not None
    }
    if REACH in spent:  # the work was that of the whole check
        whole[REACH] = spent[REACH].passes
    elif REACH in whole:
        whole[REACH] *= _REACH
    usual = _usual([*spent.values()])
    taken = {name: spent.get(name, usual) for name in whole}
    ends, paces = dict[str, Ends](), dict[str, float]()
    if early_ends:
        ends, paces = _ends(brief, model, [*dict.fromkeys([case, *_some(sizes)])], told)
    if DOUBLED in whole and ends:
        ends |= {DOUBLED: _of_all_sizes(next(iter(ends.values())), whole[DOUBLED])}
    return _Tried(
        begin, opening, {name: one.per_pass for name, one in taken.items()},
        {name: one.judging for name, one in taken.items()}, whole, ends,
        _settled(sizes, paces, case),
    )  # fmt: skip


def _some(sizes: Mapping[str, float]) -> list[str]:
    """A few cases of different sizes."""
    ordered = sorted(sizes, key=lambda id: sizes[id])
    return [ordered[n * len(ordered) // _CASES] for n in range(_CASES)] if len(ordered) > _CASES else ordered


def _kinds(bench: Bench, model: str) -> list[tuple[list[str], tuple[float, ...]]]:
    """The attacks that may end early, those with gradients and those without, each with the sizes to try."""
    kinds = dict[bool, list[tuple[str, tuple[float, ...]]]]()
    for name, trial in bench.trials(model).items():
        # What looks for the smallest perturbation never ends early.
        if isinstance(trial, AttackTrial) and not trial.alone:
            kinds.setdefault(trial.attack().needs_gradient, []).append((name, trial.eps))
    return [([name for name, _ in kind], kind[0][1]) for kind in kinds.values()]


def _ends(worker: Worker, model: str, cases: Sequence[str], told: _Told) -> tuple[dict[str, Ends], dict[str, float]]:
    """Try one attack with gradients and one without; the others of either kind end where it ends.

    Returns:
        Where they ended, and for each case the seconds of a forward pass.
    """
    found, paces = dict[str, Ends](), dict[str, float]()
    for names, eps in _kinds(worker.bench, model):
        ends: dict[float, dict[str, float]] = {size: {} for size in eps}
        for case in cases:  # case by case, so that each is prepared once
            tried = [_end(worker, Unit(model, names[0], case, size, 0), told) for size in eps]
            for size, one in zip(eps, tried, strict=True):
                ends[size][case] = one.end
            paces.setdefault(case, min(one.pace for one in tried))
        found |= dict.fromkeys(names, ends)
    return found, paces


def _of_all_sizes(ends: Ends, whole: float) -> Ends:
    """Where a unit ends that attacks at every size in turn, from where an attack ended at each of them."""
    each = whole / len(ends)
    cases = dict.fromkeys(case for one in ends.values() for case in one)
    return {0.0: {case: math.fsum(min(one[case], each) for one in ends.values()) for case in cases}}


@dataclass(frozen=True)
class _Short:
    """A short attack: the passes after which nothing was left, infinite if something was, and the seconds of a pass."""

    end: float
    pace: float


def _end(worker: Worker, unit: Unit, told: _Told) -> _Short:
    """Try a short attack."""
    told.begin(unit)
    (record,) = worker.work(unit)
    made = passes(record.gradients, record.forwards)
    return _Short(made if record.dice() <= 0 else math.inf, record.seconds / max(made, 1.0))


def _settled(sizes: Mapping[str, float], paces: Mapping[str, float], case: str) -> dict[str, float]:
    """The size of each case, in that of one of them: as measured, and for others as those that were measured.

    What a system cuts away before it looks, and how it places its windows, no header says.
    """
    measured = {id: pace / paces[case] for id, pace in paces.items()} if paces.get(case) else {case: 1.0}
    usual = statistics.median(found * sizes[case] / sizes[id] for id, found in measured.items())
    return {id: measured.get(id, usual * size / sizes[case]) for id, size in sizes.items()}


def _unit(bench: Bench, model: str, name: str, case: str) -> Unit:
    """A unit of a trial, with the largest perturbation; noise is as strong as an attack might be."""
    eps = next(reversed(bench.trials(model)[name].sizes(0)))
    samples = None if batches_of(bench.trials(model)[name])[0] is None else _FEW_RUNS
    return Unit(model, name, case, eps, bench.protocol.seeds[0], rms=None if eps is None else eps / 2, samples=samples)


def _units(bench: Bench, model: str) -> list[Unit]:
    every = (*bench.first_units(), *bench.units(), *bench.last_units())
    return [unit for unit in every if unit.model == model]


def _within(bench: Bench, place: Path, budget: Budget) -> Bench:
    """The same benchmark, whose attacks have another budget, and whose files go elsewhere."""
    return replace(bench.within(place), protocol=within_budget(bench.protocol, budget))


def _whole(bench: Bench, model: str) -> dict[str, float]:
    """The forward passes that each trial makes at most, without judging what it found."""
    classes = bench.target(model).classes
    return {name: passes(*trial.cost(classes)) for name, trial in bench.trials(model).items()}


def _spent(worker: Worker, unit: Unit, place: Path, told: _Told) -> _Spent | None:
    """Do a unit, and write its records; None where it means nothing on this case."""
    told.begin(unit)
    began = time.perf_counter()
    try:
        records = worker.work(unit)
    except NotApplicable:
        return None
    RecordStore(place).write(unit, records)
    took = time.perf_counter() - began
    searched = math.fsum(record.seconds for record in records)
    gradients = sum(record.gradients for record in records)
    asked = worker.bench.trials(unit.model)[unit.attack].cost(worker.bench.target(unit.model).classes)
    # What a surrogate computes is in no record.
    made = passes(*asked) if asked[0] and not gradients else passes(gradients, sum(one.forwards for one in records))
    # A trial that does not say what its search took, such as the look at the gradient, is always as short as this.
    per_pass = searched / made if made else 0.0
    return _Spent(per_pass, took - searched, made)


def _usual(spent: list[_Spent]) -> _Spent:
    """What a trial takes that was not tried."""
    known = [one.per_pass for one in spent if one.per_pass] or [0.0]
    return _Spent(statistics.median(known), statistics.median(one.judging for one in spent), 0.0)


def _sizes(worker: Worker, model: str) -> dict[str, float]:
    """The size of each case: the windows that a single run needs for it, else its voxels."""
    system = worker.system(model)
    if worker.bench.protocol.mode == "patch":  # one window of each case
        return dict.fromkeys(worker.bench.cases, 1.0)
    return {id: _size(system, worker.bench.case(model, id).images[0]) for id in worker.bench.cases}


def _size(system: System, path: Path) -> float:
    header = read_header(path)
    if not isinstance(system, RunSystem):
        return float(math.prod(header.shape))
    predictor, _ = system.members[0]
    plan = predictor.model.plan
    lengths = header.shape
    if plan.resample and affine_fault(header.affine) is None:
        axes, _ = orientation(header.affine)
        spacing = np.linalg.norm(header.affine[:3, :3], axis=0)
        pairs = zip(axes, plan.spacing, strict=True)
        i, j, k = (max(1, round(header.shape[axis] * spacing[axis] / target)) for axis, target in pairs)
        lengths = i, j, k
    return float(predictor.windows(lengths).count)


def _group(unit: Unit) -> Group:
    return unit.model, unit.case


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
