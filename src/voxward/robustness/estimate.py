"""How long a benchmark will take, from a gradient and a forward pass on each model's first case."""

from __future__ import annotations

import time
from collections.abc import Callable

from voxward.attacks.base import Attack
from voxward.attacks.fab import MinimumNorm
from voxward.attacks.objectives import create_objective
from voxward.attacks.square import Square
from voxward.robustness.run import Bench
from voxward.robustness.subject import Subject

# Forward passes of a minimum-norm attack's line searches.
_LINE_SEARCH = 20


def estimate_hours(bench: Bench) -> float:
    """The hours that all units of the benchmark take here, on one process, if every case is like the first."""
    setting, first = bench.setting, next(iter(bench.cases))
    hours = 0.0
    for name, predictor in bench.predictors.items():
        subject = bench.subject(name, first)
        forward = _seconds(lambda subject=subject: subject.model.logits(subject.volume))  # type: ignore[misc]
        gradient = _seconds(lambda subject=subject: _gradient(subject))  # type: ignore[misc]
        attacks = bench.attacks(predictor).values()
        each = sum(
            _spent(attack, forward, gradient) * (1 if isinstance(attack, MinimumNorm) else len(setting.eps))
            for attack in attacks
        )
        judged = 3 * forward * len(setting.eps) * (len(attacks) + 1)
        hours += len(bench.cases) * (each + judged) / 3600
    return hours


def _spent(attack: Attack, forward: float, gradient: float) -> float:
    if isinstance(attack, Square):
        return attack.queries * forward
    steps = int(getattr(attack, "steps", 1)) * int(getattr(attack, "restarts", 1))
    return steps * gradient + (_LINE_SEARCH * forward if isinstance(attack, MinimumNorm) else forward)


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
