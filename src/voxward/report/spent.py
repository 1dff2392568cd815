"""What an attack found and spent on a case, as means over the cases: the figures that tables of attacks share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from voxward.metrics.summary import Summary, summarise
from voxward.report.table import Column
from voxward.report.text import number_text
from voxward.robustness.record import Record
from voxward.robustness.summary import View

COST = Column("gradients + forward passes / case", short="grad + fwd")
"""The column of what `cost_text` returns."""


@dataclass(frozen=True)
class Spent:
    """What attacks spent at one eps, as means over the cases.

    Attributes:
        seconds: The time in seconds; None where nothing is known.
        gradients: Gradients of the whole volume.
        forwards: Forward passes of the whole volume.
    """

    seconds: float | None = None
    gradients: float = 0.0
    forwards: float = 0.0

    @classmethod
    def of(cls, records: Sequence[Record]) -> Spent:
        """Return what was spent, by several seeds together."""
        cases = len({record.case for record in records})
        if not cases:
            return cls()
        spent = (sum(r.gradients for r in records), sum(r.forwards for r in records))
        return cls(math.fsum(record.seconds for record in records) / cases, spent[0] / cases, spent[1] / cases)

    def __add__(self, other: Spent) -> Spent:
        seconds = math.fsum(value for value in (self.seconds, other.seconds) if value is not None)
        return Spent(seconds, self.gradients + other.gradients, self.forwards + other.forwards)

    @property
    def values(self) -> tuple[float | None, float, float]:
        """Return the seconds, gradients and forward passes."""
        return self.seconds, self.gradients, self.forwards


def found_and_spent(view: View, model: str, attack: str, eps: float) -> tuple[Summary | None, Spent]:
    """Return the Dice over cases under one attack or control, the lowest of its seeds, and what it spent.

    Args:
        view: The records.
        model: The name of the system.
        attack: The name of the attack or control.
        eps: The size of the perturbation. Controls that need none are the same at every size.
    """
    mine = [r for r in view.records if r.model == model and r.attack == attack]
    chosen = [r for r in mine if r.eps == eps] or [r for r in mine if r.kind == "control" and r.eps == 0]
    lowest: dict[str, float] = {}
    for record in chosen:
        lowest[record.case] = min(lowest.get(record.case, math.inf), record.dice(view.deployed))
    return summarise(list(lowest.values())), Spent.of(chosen)


def cost_text(spent: Sequence[Spent]) -> str:
    """Return the gradients and forward passes at all eps together, as "100 + 15"."""
    return f"{sum(one.gradients for one in spent):.0f} + {sum(one.forwards for one in spent):.0f}"


def seconds_text(spent: Sequence[Spent]) -> str:
    """Return the mean seconds over eps; a minimum-norm attack spends once for all, on the first."""
    known = [one.seconds for one in spent if one.seconds is not None]
    return number_text(math.fsum(known) / len(known) if known else None, 1)
