"""Every learning-rate schedule by its name in a recipe.

A schedule returns the factor on the initial learning rate. Its time is the share of the run that is done, so that it
fits a run of any length. The training loop tells it the validation losses.
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
    """A learning-rate schedule, as the training loop calls it."""

    def factor(self, done: float) -> float:
        """Return the learning rate at a time of the run, as a multiple of the initial one.

        Args:
            done: The share of the run that is done, from 0 to 1.
        """
        ...

    def observe(self, done: float, validation_loss: float) -> None:
        """Take note of a validation loss.

        Args:
            done: The share of the run, from 0 to 1, that was done when the loss was measured.
            validation_loss: The loss of the validation.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as plain numbers."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned.

        Args:
            state: The plain numbers.
        """
        ...


@dataclass
class Fixed:
    """A schedule that depends on time alone.

    Args:
        curve: A function from the share (0 to 1) of what follows the warm-up to the factor.
        warmup: The share (0 to 1) of the run over which the factor grows linearly to 1.
    """

    curve: Callable[[float], float]
    warmup: float = 0.0

    def factor(self, done: float) -> float:
        """Return the factor at the share `done` of the run; during the warm-up it is at least 0.01."""
        if done < self.warmup:
            return max(done / self.warmup, 0.01)
        return self.curve(min((done - self.warmup) / (1.0 - self.warmup), 1.0))

    def observe(self, done: float, validation_loss: float) -> None:
        """Do nothing, because validation losses do not matter here."""

    def state(self) -> dict[str, Any]:
        """Return nothing, because there is nothing to keep."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing, because nothing was kept."""


@dataclass
class Plateau:
    """The schedule of ROG: the factor falls where the smoothed validation loss has stopped falling.

    The smoothed loss is the mean of the new validation loss and of the smoothed loss before it.

    Args:
        reduce: The number that the factor is multiplied with.
        patience: The share (0 to 1) of the run without a new lowest smoothed loss after which the factor falls.
        cooldown: The share (0 to 1) at the end of the run over which the factor falls linearly to 0; 0 switches this
            off, as published.
        level: The factor without the cooldown.
        smoothed: The smoothed loss, or None before the first validation.
        best: The lowest smoothed loss.
        since: The share of the run at which the smoothed loss was lowest or the factor fell last.
    """

    reduce: float = 0.5
    patience: float = 0.05
    cooldown: float = 0.0
    level: float = 1.0
    smoothed: float | None = None
    best: float = math.inf
    since: float = 0.0

    def factor(self, done: float) -> float:
        """Return the factor at the share `done` (0 to 1) of the run."""
        ending = min((1.0 - done) / self.cooldown, 1.0) if self.cooldown else 1.0
        return self.level * max(ending, 0.0)

    def observe(self, done: float, validation_loss: float) -> None:
        """Take note of a validation loss, and lower the factor where the patience is over."""
        self.smoothed = validation_loss if self.smoothed is None else (self.smoothed + validation_loss) / 2
        if self.smoothed < self.best:
            self.best, self.since = self.smoothed, done
        elif done - self.since > self.patience:
            self.level *= self.reduce
            self.since = done

    def state(self) -> dict[str, Any]:
        """Return the level, the smoothed loss, the lowest one, and when that was."""
        return {"level": self.level, "smoothed": self.smoothed, "best": self.best, "since": self.since}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        for name, value in state.items():
            setattr(self, name, value)


def _cosine(warmup: float = 0.0) -> Schedule:
    return Fixed(lambda done: 0.5 * (1.0 + math.cos(math.pi * done)), warmup)


def _flat_cosine(flat: float = 0.5, warmup: float = 0.0) -> Schedule:
    """Make a schedule that is flat over the share `flat` (0 to 1) after the warm-up, then falls by a cosine."""
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
    """Make the schedule that a recipe names.

    Args:
        choice: The name of the schedule and its options.

    Returns:
        A schedule at the beginning of a run.

    Raises:
        UserError: The name or an option is unknown, or an option has a wrong value.

    Example:
        >>> create_schedule(Choice("cosine", {"warmup": 0.1})).factor(0.05)
        0.5
    """
    return SCHEDULES.build(choice.name, **choice.options)
