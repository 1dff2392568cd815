"""What can be done to a system on a case: controls, probes, attacks, corruptions. One file and one line for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voxward.core.errors import UserError
from voxward.core.registry import Registry
from voxward.robustness.trials import (
    attack,
    certificate,
    control,
    corruption,
    doubled,
    equal_noise,
    probe,
    reach,
    transfer,
)
from voxward.robustness.trials.trial import Target, Trial

TRIALS: Registry[Callable[[Target], Sequence[Trial]]] = Registry(
    "kind of trial",
    {
        "control": control.trials,
        "probe": probe.trials,
        "reach": reach.trials,
        "attack": attack.trials,
        "transfer": transfer.trials,
        "equal noise": equal_noise.trials,
        "doubled": doubled.trials,
        "corruption": corruption.trials,
        "certificate": certificate.trials,
    },
)
"""For every kind, what it plans for a system under a protocol."""


def plan_trials(target: Target) -> dict[str, Trial]:
    """Return all trials of a protocol on a system, by name.

    Raises:
        UserError: The protocol's attacks cannot be used on the system, or two trials have one name.
    """
    found: dict[str, Trial] = {}
    for plan in TRIALS.values():
        for trial in plan(target):
            if trial.name in found:
                raise UserError(f"attacks: the name {trial.name!r} is taken by another trial: choose another name")
            found[trial.name] = trial
    return found
