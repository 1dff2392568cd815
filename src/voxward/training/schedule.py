"""Learning-rate schedules. Time is the share of the run done, so a schedule fits any length of run.

A schedule gives the factor on the initial learning rate at a point of the run; `observe` hands it the validation loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from voxward.core.errors import UserError
from voxward.core.recipe import Choice
from voxward.core.registry import Registry


@runtime_checkable
class Schedule(Protocol):
    """What the training loop asks of a schedule."""

    def factor(self, done: float) -> float:
        """The learning rate at `done` (0 to 1), as a multiple of the initial one."""
        ...

    def observe(self, done: float, validation_loss: float) -> None:
        """Take note of a validation at `done`."""
        ...

    def state(self) -> dict[str, Any]:
        """What `restore` needs, in plain numbers."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        ...


@dataclass
class Fixed:
    """A factor that depends on time alone: linear warm-up over the share `warmup`, then `curve` of what is left."""

    curve: Callable[[float], float]
    warmup: float = 0.0

    def factor(self, done: float) -> float:
        """See Schedule."""
        if done < self.warmup:
            return max(done / self.warmup, 0.01)
        return self.curve(min((done - self.warmup) / (1.0 - self.warmup), 1.0))

    def observe(self, done: float, validation_loss: float) -> None:
        """Nothing to note."""

    def state(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


@dataclass
class Plateau:
    """ROG's schedule: multiply by `reduce` when the smoothed validation loss has not fallen for the share `patience`.

    The smoothed loss is the mean of the new loss and the smoothed one before it. Over the last share `cooldown` of the
    run the rate falls linearly to zero (0 = off, as published).
    """

    reduce: float = 0.5
    patience: float = 0.05
    cooldown: float = 0.0
    level: float = 1.0
    smoothed: float | None = None
    best: float = math.inf
    since: float = 0.0

    def factor(self, done: float) -> float:
        """See Schedule."""
        ending = min((1.0 - done) / self.cooldown, 1.0) if self.cooldown else 1.0
        return self.level * max(ending, 0.0)

    def observe(self, done: float, validation_loss: float) -> None:
        """Halve when the loss has stagnated for longer than the patience."""
        self.smoothed = validation_loss if self.smoothed is None else (self.smoothed + validation_loss) / 2
        if self.smoothed < self.best:
            self.best, self.since = self.smoothed, done
        elif done - self.since > self.patience:
            self.level *= self.reduce
            self.since = done

    def state(self) -> dict[str, Any]:
        """Level, smoothed loss, best loss and when it was."""
        return {"level": self.level, "smoothed": self.smoothed, "best": self.best, "since": self.since}

    def restore(self, state: dict[str, Any]) -> None:
        """See Schedule."""
        for name, value in state.items():
            setattr(self, name, value)


def _cosine(warmup: float = 0.0) -> Schedule:
    return Fixed(lambda done: 0.5 * (1.0 + math.cos(math.pi * done)), warmup)


def _flat_cosine(flat: float = 0.5, warmup: float = 0.0) -> Schedule:
    """Constant over the share `flat` (0 to 1) of what follows the warm-up, then a cosine to zero."""
    if not 0 <= flat <= 1:
        raise UserError(f"schedule 'flat-cosine': flat must be from 0 to 1, got {flat}")
    falling = _cosine()
    return Fixed(lambda done: falling.factor((done - flat) / (1.0 - flat)) if done > flat else 1.0, warmup)


def _poly(power: float = 0.9, warmup: float = 0.0) -> Schedule:
    return Fixed(lambda done: (1.0 - done) ** power, warmup)


def _constant(warmup: float = 0.0) -> Schedule:
    return Fixed(lambda done: 1.0, warmup)


def _plateau(factor: float = 0.5, patience: float = 0.05, cooldown: float = 0.0) -> Schedule:
    return Plateau(factor, patience, cooldown)


SCHEDULES: Registry[Callable[..., Schedule]] = Registry(
    "schedule",
    {"plateau": _plateau, "cosine": _cosine, "flat-cosine": _flat_cosine, "poly": _poly, "constant": _constant},
)


def create_schedule(choice: Choice) -> Schedule:
    """The recipe's schedule. Raises ValueError for an unknown name or option."""
    build = SCHEDULES[choice.name]
    try:
        return build(**choice.options)
    except TypeError as error:
        raise UserError(f"schedule {choice.name!r}: {error}") from error
