"""The part of a recipe that says when weights are averaged, and how the learning rate restarts meanwhile.

Henry et al., BraTS 2020, section 2.5, after Athiwaratkun et al.: after the ordinary training, the rate is set back to
half of its initial value and falls along a cosine, several times; every few epochs the weights are added to their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from voxward.core.errors import UserError

# Shares of a run are compared with room for their rounding; a step is more than this.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Averaging:
    """Stochastic weight averaging with restarts of the learning rate.

    Time is the share of the run that is done, so that the schedule fits a run of any length. The defaults are those of
    the paper: 200 epochs, then 5 cycles of 30 epochs with a snapshot every 3, that is 50 snapshots. The released code
    has `stretch` 4/3 and `initial` true: 51 snapshots, and a cosine over 40 epochs of which 30 are run.

    Args:
        start: The share (0 up to, but not including, 1) of the run before the first restart.
        restarts: The number of cycles of equal length that fill the rest of the run.
        snapshots: The number of snapshots of the weights in a cycle, evenly spread, with the last one at its end.
        rate: The learning rate at the beginning of a cycle, as a multiple of the initial learning rate of the run.
        stretch: The length of the cosine in cycles, at least 1. Above 1, the rate does not reach zero.
        initial: True counts the weights before the first restart as a snapshot, too.
        optimizer: The name of the optimiser that each cycle starts with, with default options except for the learning
            rate; None for the optimiser of the recipe.
        decay: The decay (above 0, below 1) of an exponential mean over the weights after every step, such as 0.99. Then
            nothing restarts, the schedule of the recipe is followed to the end, and all other settings must be left
            out. None averages the snapshots.

    Raises:
        UserError: A value is out of range.
    """

    start: float = 200 / 350
    restarts: int = 5
    snapshots: int = 10
    rate: float = 0.5
    stretch: float = 1.0
    initial: bool = False
    optimizer: str | None = None
    decay: float | None = None

    def __post_init__(self) -> None:
        if self.decay is not None:
            if not 0 < self.decay < 1:
                raise UserError(f"decay must be above 0 and below 1, got {self.decay}")
            if any(getattr(self, entry.name) != entry.default for entry in fields(self) if entry.name != "decay"):
                raise UserError("decay takes an exponential mean without restarts: leave the other settings out")
            return
        if not 0 <= self.start < 1:
            raise UserError(f"start must be in [0, 1), got {self.start}")
        if self.initial and not self.start:
            raise UserError("initial needs a start above 0: before the first step there is nothing to average")
        for name, count in (("restarts", self.restarts), ("snapshots", self.snapshots)):
            if count < 1:
                raise UserError(f"{name} must be at least 1, got {count}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise UserError(f"rate must be positive, got {self.rate}")
        if not (math.isfinite(self.stretch) and self.stretch >= 1):
            raise UserError(f"stretch must be at least 1, got {self.stretch}")

    def factor(self, done: float) -> float:
        """Return the learning rate at the share `done` (start to 1) of the run, as a multiple of the initial one."""
        cycles = (done - self.start) / (1.0 - self.start) * self.restarts + _ROUNDING
        within = cycles - min(int(cycles), self.restarts - 1)
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * min(within / self.stretch, 1.0)))

    def restarts_begun(self, done: float) -> int:
        """Return how many cycles, each with a new optimiser, have begun when the share `done` of the run is done."""
        return sum(self._reached(cycle / self.restarts, done) for cycle in range(self.restarts))

    def snapshots_due(self, done: float) -> int:
        """Return how many snapshots are due when the share `done` of the run is done; all of them when it is 1.

        Where several become due in one step, the weights are added once, so that all snapshots count the same.
        """
        count = self.restarts * self.snapshots
        return sum(self._reached(n / count, done) for n in range(0 if self.initial else 1, count + 1))

    def _reached(self, part: float, done: float) -> bool:
        """Say whether the share `done` has reached the share `part` of what follows `start`."""
        return done >= self.start + (1.0 - self.start) * part - _ROUNDING
