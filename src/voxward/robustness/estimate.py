"""How long a benchmark will take, from a gradient and a forward pass on each system's first case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from voxward.attacks.objectives import create_objective
from voxward.robustness.bench import Bench, Worker
from voxward.robustness.record import Record
from voxward.robustness.subject import Subject
from voxward.robustness.unit import Unit

# Forward passes that judge what a trial found: the array, the file, and the file's own preparation.
_JUDGINGS = 3
# A gradient takes about as long as so many forward passes: one forward, and a backward of twice the work.
_GRADIENT = 3.0


def weight_of(bench: Bench) -> Callable[[Unit], float]:
    """Return a function that says how long a unit takes at most, in forward passes through its system.

    How long a forward pass takes is measured while the units run; here their lengths are only compared.

    Args:
        bench: The benchmark.
    """
    known: dict[tuple[str, str], float] = {}

    def weight(unit: Unit) -> float:
        key = unit.model, unit.attack
        if key not in known:
            trial = bench.trials(unit.model)[unit.attack]
            known[key] = _passes(*trial.cost(bench.target(unit.model).classes))
        return known[key]

    return weight


def passes_of(records: Sequence[Record]) -> float:
    """Return how long a unit took, in forward passes through its system.

    Args:
        records: The records of the unit, each of which was judged.
    """
    spent = sum(record.gradients for record in records), sum(record.forwards for record in records)
    return _passes(*spent, judged=len(records))


def _passes(gradients: int, forwards: int, judged: int = 1) -> float:
    return _GRADIENT * gradients + forwards + _JUDGINGS * judged


def estimate_hours(worker: Worker) -> float:
    """Return the hours that all units of a benchmark take in one process here, if every case is like the first."""
    bench, seconds = worker.bench, 0.0
    first = next(iter(bench.cases))
    units = [*bench.first_units(), *bench.units(), *bench.last_units()]
    for model in bench.sources:
        subject, trials = worker.stand(model, first).subject, bench.trials(model)
        forward = _seconds(lambda subject=subject: subject.model.logits(subject.volume))  # type: ignore[misc]
        # Without a gradient of its own, a system's gradients are those of the surrogate.
        other = (
            worker.stand(model, first).surrogate().model if bench.surrogate and bench.gradientless.get(model) else None
        )
        asked = subject if other is None else replace(subject, model=other)
        spends = any(trials[unit.attack].cost(2)[0] for unit in units if unit.model == model)
        gradient = _seconds(lambda asked=asked: _gradient(asked)) if spends else 0.0  # type: ignore[misc]
        for unit in units:
            if unit.model == model:
                gradients, forwards = trials[unit.attack].cost(bench.target(model).classes)
                seconds += gradients * gradient + (forwards + _JUDGINGS) * forward
    return seconds / 3600


def _gradient(subject: Subject) -> object:
    objective = create_objective("dice")
    return subject.model.value_and_grad(
        subject.volume, subject.target, lambda logits, target: objective(logits, target, 1.0)
    )


def _seconds(work: Callable[[], object]) -> float:
    """The second of two goes: the first one warms up."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
