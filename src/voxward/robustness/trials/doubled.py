"""The strongest attack once more, with twice its budget: if that lowers the Dice, the figures are not converged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from voxward.core.progress import Progress
from voxward.robustness.record import DOUBLED, DOUBLES, Record
from voxward.robustness.skipped import NotApplicable
from voxward.robustness.stand import Stand
from voxward.robustness.trials import attack, transfer
from voxward.robustness.trials.trial import Follows, Phase, Target, Trial
from voxward.robustness.unit import Unit

CASES = 2
"""On so many cases, the first ones, it is tried."""


@dataclass(frozen=True)
class Doubled:
    """The attack that a unit names, with twice its budget; no worst case counts it.

    Which attack hurts most is known when all have run, so that the unit says it.

    Attributes:
        trials: Every attack of the protocol with twice its budget, by its name.
    """

    trials: Mapping[str, Trial]
    name: str = DOUBLED
    phase: Phase = "last"
    repeated: bool = False

    def follows(self, unit: Unit) -> Mapping[str, Any]:
        """Return which attack it is, and what that one follows from; see Follows."""
        trial = self.trials.get(unit.doubles or "")
        return {DOUBLES: unit.doubles, **(trial.follows(unit) if isinstance(trial, Follows) else {})}

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return one unit of all sizes for each of the first cases; see Trial."""
        return (None,) if number < CASES else ()

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the cost of the most expensive attack, as the unit may be about any; see Trial."""
        costs = [(trial.cost(classes), len(trial.sizes(0))) for trial in self.trials.values()]
        return max((gradients * times, forwards * times) for (gradients, forwards), times in costs)

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Attack the case at every size; see Trial.

        Raises:
            NotApplicable: The unit names no attack, because none has run.
        """
        if unit.doubles is None:
            raise NotApplicable("no attack has run that could be run again")
        trial = self.trials[unit.doubles]
        sizes = trial.sizes(0)
        parts = [_part(progress, n, len(sizes)) for n in range(len(sizes))]
        found = [
            one
            for eps, part in zip(sizes, parts, strict=True)
            for one in trial.run(replace(unit, eps=eps), stand, part)
        ]
        return tuple(replace(one, options={**one.options, DOUBLES: unit.doubles}) for one in found)


def trials(target: Target) -> list[Doubled]:
    """Plan the control where a protocol names it, and the Dice says how strong an attack is."""
    if DOUBLED not in target.protocol.controls or target.protocol.invent is not None:
        return []
    found: dict[str, Trial] = {trial.name: trial.doubled() for trial in attack.trials(target)}
    found |= {trial.name: trial.doubled() for trial in transfer.trials(target)}
    return [Doubled(found)] if found else []


def _part(progress: Progress, number: int, count: int) -> Progress:
    """Reports of the attack at one of several sizes, as steps of the whole unit."""

    def shown(stage: str, done: int, total: int | None, /, **figures: float | str) -> None:
        whole, before = (None, 0) if total is None else (total * count, total * number)
        progress(f"{stage}, budget doubled", done + before, whole, **figures)

    return shown
