"""How far a benchmark is: the unit that runs, the lowest Dice so far, and the share of the expected time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from voxward.core.progress import SEPARATOR, Progress
from voxward.core.wording import eps_number, eps_text
from voxward.engine.course import Course
from voxward.robustness.bench import Bench
from voxward.robustness.estimate import passes_of, weight_of
from voxward.robustness.record import Record
from voxward.robustness.trials.attack import AttackTrial
from voxward.robustness.trials.corruption import CorruptionTrial
from voxward.robustness.trials.doubled import Doubled
from voxward.robustness.unit import Unit

STAGE = "attack"
LOWEST = "lowest_dice"
ARRAY_DICE = "array_dice"
"""The lowest Dice that the attack which runs has found so far, of the array that it computes, before it is a file."""


class BenchCourse(Course[Unit]):
    """Reports on the units of a benchmark.

    Args:
        bench: The benchmark.
        progress: What the reports go to.
        channels: The names of each system's channels, by which native intensities of CT are in HU.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, bench: Bench, progress: Progress, channels: Mapping[str, Sequence[str]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        names = channels or {}
        self._measured_in, self._channels = bench.protocol.threat.unit, names
        super().__init__(
            STAGE, progress, lambda each: _running(each, bench, names.get(each.model, ())), weight_of(bench),
            kind=lambda each: (each.model, each.attack, each.eps), clock=clock,
        )  # fmt: skip

    def told(self, unit: Unit, stage: str, done: int, total: int | None, figures: dict[str, Any]) -> None:
        """Report a step within a unit, and say of its Dice that it is the array's; see `Course.told`."""
        found = {ARRAY_DICE if name == "dice" else name: value for name, value in figures.items()}
        if "eps" in found:  # a search through several sizes: in the words that say what the unit is about
            channels = self._channels.get(unit.model, ())
            found["eps"] = eps_text(eps_number(found["eps"]), self._measured_in, channels)
        super().told(unit, stage, done, total, found)

    def found(self, unit: Unit, records: Sequence[Record]) -> None:
        """Note what a unit found, and how long it took: an attack that leaves nothing ends early.

        Args:
            unit: The unit, which this process did.
            records: Its records.
        """
        self.note(records)
        self.took(unit.place.as_posix(), unit, passes_of(records))

    def note(self, records: Iterable[Record]) -> None:
        """Note the lowest Dice under attack; controls are no attacks, and no Dice tells of a class that is invented."""
        dice = [record.dice() for record in records if record.kind == "attack" and record.phantom is None]
        if dice:
            self.figures[LOWEST] = min(*dice, float(self.figures.get(LOWEST, 1.0)))


def _running(unit: Unit, bench: Bench, channels: Sequence[str]) -> str:
    """What a unit is about."""
    if unit.eps is not None and isinstance(bench.trials(unit.model)[unit.attack], CorruptionTrial):
        return SEPARATOR.join((unit.model, f"case {unit.case}", unit.attack, f"severity {unit.eps:.0f}"))
    return running(unit, bench.protocol.threat.unit, channels, searched(unit, bench))


def searched(unit: Unit, bench: Bench) -> tuple[float, ...]:
    """Return the sizes that a unit is about: its own, all of a search for every size, or none, as of a clean case."""
    if unit.eps is not None:
        return (unit.eps,)
    trial = bench.trials(unit.model)[unit.attack]
    return bench.protocol.threat.eps if isinstance(trial, AttackTrial | Doubled) else ()


def running(unit: Unit, measured_in: str, channels: Sequence[str] = (), sizes: Sequence[float] = ()) -> str:
    """Return what a unit is about, such as "run · case hippocampus_033 · apgd-dice · eps 8/255".

    Args:
        unit: The unit.
        measured_in: The unit of eps, `range` or `native`.
        channels: The names of the system's channels.
        sizes: The sizes that it is about, of which the smallest and the largest are told.
    """
    ends = dict.fromkeys((min(sizes), max(sizes))) if sizes else {}
    size = "eps " + " to ".join(eps_text(eps, measured_in, channels) for eps in ends) if ends else ""
    if unit.samples is not None:
        size = f"sigma {unit.eps:g}"
    return SEPARATOR.join(filter(None, (unit.model, f"case {unit.case}", unit.attack, size)))
