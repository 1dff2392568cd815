"""How far a run is and how long it will be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RunLength:
    """The steps of a run, whose number may be corrected while the run goes on; the share that is done never jumps.

    Attributes:
        step: How many steps are done.
        total_steps: The step at which the run ends; None until that is known.
        since: The step of the last correction, and the share of the run that was done then.
    """

    step: int = 0
    total_steps: int | None = None
    since: tuple[int, float] = (0, 0.0)

    @property
    def done(self) -> float:
        """Return the share of the run that is done, 0 to 1; it is 0 until the run's length is known."""
        return self.done_at(self.step)

    def done_at(self, step: int) -> float:
        """Return the share of the run that will be done after some steps, if the run's length stays as it is.

        Args:
            step: The number of steps, counted from the start of the run.
        """
        if not self.total_steps:
            return 0.0
        if step >= self.total_steps:
            return 1.0
        first, share = self.since
        return share + (1.0 - share) * ((step - first) / (self.total_steps - first))

    def correct(self, left: int) -> None:
        """Change the run's length; the share that is done stays the same.

        Args:
            left: How many steps are left from here; 0 if the run has ended.
        """
        self.since, self.total_steps = (self.step, self.done), self.step + left
