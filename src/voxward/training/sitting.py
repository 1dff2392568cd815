"""One sitting at a training or at a search: it keeps the time, and it ends in good order when a signal says so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import torch

from voxward.core.devices import wait_for
from voxward.core.interrupt import Interrupted, stop_on_signal
from voxward.core.progress import SECONDS_LEFT, Progress
from voxward.data.loader import LoaderDied
from voxward.training.budget import Clock
from voxward.training.log import TrainingLog


class Sitting(ABC):
    """The work of one call, from the saved state until the end or until a signal.

    A training and a search have sittings of their own, which say what a step is and what is saved.

    Args:
        folder: The folder that holds the state, for messages.
        device: The device on which the steps run.
        minutes: The time budget of all sittings together, or None for a length in steps.
        progress: A function that is told about every step.
        clock: A function that returns the time in seconds.

    Attributes:
        budget: The time budget in seconds, or None.
        before: The seconds of the earlier sittings.
    """

    def __init__(
        self, folder: Path, device: torch.device, minutes: float | None, progress: Progress, clock: Clock
    ) -> None:
        self.folder, self.device, self.progress, self.clock = folder, device, progress, clock
        self.budget = None if minutes is None else 60.0 * minutes
        self.log: TrainingLog | None = None
        self.before, self._started = 0.0, clock()

    @abstractmethod
    def steps(self) -> Iterator[None]:
        """Do one step after another, and yield after each one that may be the last of this sitting."""

    @abstractmethod
    def save(self) -> None:
        """Write everything that the next sitting needs."""

    @property
    @abstractmethod
    def step(self) -> int:
        """Return the number of steps that are done, over all sittings."""

    def work(self, log: TrainingLog | None) -> None:
        """Go on until the end.

        Args:
            log: The log that gets a row for every validation or epoch; it is closed at the end. None in a process
                that does not write.

        Raises:
            Interrupted: A signal stopped the work, and the state was saved.
            LoaderDied: A process that reads ahead was killed; the state was saved.
        """
        self.log = log
        try:
            with stop_on_signal() as stop:
                for _ in self.steps():
                    if self.anyone(stop()):
                        self.save()
                        raise Interrupted(f"stopped at step {self.step}; --resume continues {self.folder}")
        except LoaderDied as error:
            if not self.together:
                self.save()
            raise LoaderDied(f"{error}. --resume continues {self.folder}") from error
        finally:
            if log is not None:
                log.close()

    @property
    def together(self) -> bool:
        """Return whether several processes work together, so that one alone cannot save."""
        return False

    def anyone(self, stop: bool) -> bool:
        """Return whether any process says so, because all have to stop at the same step."""
        return stop

    def seconds(self) -> float:
        """Return the seconds of all sittings so far."""
        return self.before + self.clock() - self._started

    def time_left(self) -> dict[str, float]:
        """Return what is left of the time budget, as a figure of a report of progress; nothing without a budget."""
        return {} if self.budget is None else {SECONDS_LEFT: max(0.0, self.budget - self.seconds())}

    def seconds_since(self, began: float) -> float:
        """Return the seconds since the clock showed `began`, after the device has done all that it was given."""
        wait_for(self.device)  # otherwise the launch would be timed, not the work
        return self.clock() - began
