"""The part of a recipe that says how long and how a network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voxward.core.recipe.checks import below, not_positive, outside


@dataclass(frozen=True)
class Training:
    """How long and how a network is trained.

    The lengths of a schedule are options of the schedule, as shares of the whole run, so that a shorter budget keeps
    its shape.

    Args:
        epochs: The number of epochs. An epoch is one patch per training case.
        precision: `fp32`, `bf16`, `fp16`, or `auto`, which is bf16 where the hardware multiplies it fast.
        selection: The share (0 to 0.5) of the training cases that are held out to choose the best checkpoint.
        clip_gradient_norm: The largest norm of the gradient of all weights, or None for no limit.
        workers: The number of processes that load patches; 0 loads them in the training process.
        auxiliary: The weights in the loss of a network's auxiliary outputs (deep supervision). Its main output has the
            weight 1.
        best: What the checkpoint `best` has: `dice`, the highest Dice on the selection patches, or `loss`, the lowest
            loss.
        min_steps: The number of updates of the weights below which the result is poor. A time budget with room for
            fewer gives a warning.
    """

    epochs: int = 1000
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    selection: float = 0.1
    clip_gradient_norm: float | None = None
    workers: int = 1
    auxiliary: tuple[float, ...] = ()
    best: Literal["dice", "loss"] = "dice"
    min_steps: int = 0

    def problems(self) -> list[str]:
        """Return one sentence for each value that is out of range."""
        found = outside("selection", self.selection, 0.0, 0.5)
        found += below(0, min_steps=self.min_steps, workers=self.workers) + below(1, epochs=self.epochs)
        return found + not_positive(clip_gradient_norm=self.clip_gradient_norm)
