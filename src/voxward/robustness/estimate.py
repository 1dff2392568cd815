"""How long a benchmark will take, from a gradient and a forward pass on each model's first case."""

from __future__ import annotations

import time
from collections.abc import Callable

from voxward.attacks.fab import MinimumNorm
from voxward.attacks.objectives import create_objective
from voxward.robustness.bench import REACH_ATTACK, Bench
from voxward.robustness.subject import Subject

# Forward passes that judge what an attack returned: the tensor, the file, and the file's own preparation.
_JUDGINGS = 3


def estimate_hours(bench: Bench) -> float:
    """The hours that all units of the benchmark take here, on one process, if every case is like the first."""
    setting, first, seconds = bench.setting, next(iter(bench.cases)), 0.0
    for name in bench.predictors:
        subject = bench.subject(name, first)
        forward = _seconds(lambda subject=subject: subject.model.logits(subject.volume))  # type: ignore[misc]
        gradient = _seconds(lambda subject=subject: _gradient(subject))  # type: ignore[misc]
        attacks, sizes, classes = bench.attacks(name).values(), len(setting.eps), subject.labels.outputs
        for attack in attacks:
            gradients, forwards = attack.cost(classes)
            times = 1 if isinstance(attack, MinimumNorm) else sizes
            seconds += len(bench.cases) * times * (gradients * gradient + forwards * forward)
        # Each is judged as a tensor and as a file; noise, and the attack that is carried over, are run at every eps.
        seconds += len(bench.cases) * sizes * (len(attacks) + 1) * _JUDGINGS * forward
        if name in bench.transferred:
            seconds += len(bench.cases) * sizes * setting.budget.steps * gradient
        seconds += REACH_ATTACK.cost(classes)[0] * gradient
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
