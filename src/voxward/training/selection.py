"""The values that a validation measures, and the value by which the best checkpoint of a run is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voxward.core.registry import Registry


@dataclass(frozen=True)
class Validation:
    """The values that a validation has measured on the validation patches of a run.

    Args:
        loss: The mean loss of the patches.
        dice: The Dice score (0 to 1), counted over all patches together; the mean over the foreground classes or
            regions. A class that occurs nowhere is left out of the mean, which is 0 if none occurs.
        robust: The same Dice score on perturbed patches, or None without a defence.
        robust_loss: The mean loss of the perturbed patches, or None without a defence.
    """

    loss: float
    dice: float
    robust: float | None = None
    robust_loss: float | None = None

    def score(self, best: str, share: float) -> float:
        """Return the score of which the best checkpoint has most.

        Args:
            best: What counts, a name in `SELECTIONS`.
            share: The weight (0 to 1) of the perturbed patches; the clean ones have the rest.

        Raises:
            UserError: The name is unknown.
        """
        clean, perturbed = SELECTIONS[best](self)
        return clean if perturbed is None else (1 - share) * clean + share * perturbed


Selection = Callable[[Validation], tuple[float, float | None]]
"""A function that returns the scores of clean and of perturbed patches; a higher score is better."""


def _by_dice(found: Validation) -> tuple[float, float | None]:
    return found.dice, found.robust


def _by_loss(found: Validation) -> tuple[float, float | None]:
    return -found.loss, None if found.robust_loss is None else -found.robust_loss


SELECTIONS: Registry[Selection] = Registry("training.best", {"dice": _by_dice, "loss": _by_loss})
