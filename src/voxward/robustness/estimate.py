"""How long units of a benchmark are expected to take, in forward passes through their system."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voxward.robustness.bench import Bench
from voxward.robustness.record import Record
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
            known[key] = passes(*trial.cost(bench.target(unit.model).classes)) + _JUDGINGS
        return known[key]

    return weight


def passes_of(records: Sequence[Record]) -> float:
    """Return how long a unit took, in forward passes through its system.

    Args:
        records: The records of the unit, each of which was judged.
    """
    spent = sum(record.gradients for record in records), sum(record.forwards for record in records)
    return passes(*spent) + _JUDGINGS * len(records)


def passes(gradients: int, forwards: int) -> float:
    """Return how many forward passes take as long as some gradients and forward passes.

    Args:
        gradients: The number of gradients.
        forwards: The number of forward passes.
    """
    return _GRADIENT * gradients + forwards
