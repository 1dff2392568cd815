"""When weights are averaged, and how the learning rate restarts: stochastic weight averaging as a part of a recipe.

Henry et al., BraTS 2020, section 2.5, after Athiwaratkun et al.: behind the ordinary training the rate is set back to
half of its initial value and falls along a cosine, several times; every few epochs the weights are noted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxward.core.errors import UserError

# Shares of a run are compared with room for their rounding; a step is more than this.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Averaging:
    """When weights are noted, and the learning rate meanwhile. Time is the share of the run, so that any length fits.

    start: share of the run before the first restart. restarts: cycles of equal length that fill the rest. snapshots:
    of the weights, evenly spread over a cycle, the last at its end. rate: with which a cycle begins, as a multiple of
    the run's initial learning rate. stretch: length of the cosine in cycles; above 1 the rate does not reach zero.
    initial: whether the weights before the first restart count as a snapshot, too. optimizer: the name of the one that
    each cycle begins anew, with its own defaults but for the learning rate; None: the recipe's.

    The defaults are the paper's 200 epochs, then 5 x 30 with a snapshot every 3: 50 snapshots. Raises ValueError for
    values out of range.
    """

    start: float = 200 / 350
    restarts: int = 5
    snapshots: int = 10
    rate: float = 0.5
    stretch: float = 1.0
    initial: bool = False
    optimizer: str | None = None

    def __post_init__(self) -> None:
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
        """The learning rate at `done` (start to 1), as a multiple of the run's initial one."""
        cycles = (done - self.start) / (1.0 - self.start) * self.restarts + _ROUNDING
        within = cycles - min(int(cycles), self.restarts - 1)
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * min(within / self.stretch, 1.0)))

    def restarts_begun(self, done: float) -> int:
        """Return how many cycles, each with a new optimiser, have begun when the share `done` of the run is done."""
        return sum(self._reached(cycle / self.restarts, done) for cycle in range(self.restarts))

    def snapshots_due(self, done: float) -> int:
        """Return how many snapshots are due when the share `done` of the run is done; all of them when it is 1.

        Where several become due in one step, the weights are noted once: the mean stays an equal one.
        """
        count = self.restarts * self.snapshots
        return sum(self._reached(n / count, done) for n in range(0 if self.initial else 1, count + 1))

    def _reached(self, part: float, done: float) -> bool:
        """Say whether the share `done` has reached the share `part` of what follows `start`."""
        return done >= self.start + (1.0 - self.start) * part - _ROUNDING
