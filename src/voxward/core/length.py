"""How far a run is and how long it will be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RunLength:
    """The steps of a run, whose number may be corrected while it goes on; the share that is done never jumps.

    Attributes:
        step: How many steps are done.
        total_steps: At which step the run ends; None until that is known.
        since: The step of the last correction, and the share of the run that was done then.
    """

    step: int = 0
    total_steps: int | None = None
    since: tuple[int, float] = (0, 0.0)

    @property
    def done(self) -> float:
        """Return the share of the run that is done, 0 to 1; 0 until its length is known."""
        return self.done_at(self.step)

    def done_at(self, step: int) -> float:
        """Return the share that is done after `step` steps, if the length stays as it is."""
        if not self.total_steps:
            return 0.0
        if step >= self.total_steps:
            return 1.0
        first, share = self.since
        return share + (1.0 - share) * ((step - first) / (self.total_steps - first))

    def correct(self, left: int) -> None:
        """Let the run end `left` steps from here (0: it has ended); what is done stays done."""
        self.since, self.total_steps = (self.step, self.done), self.step + left
