"""What a trial found on a case."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from voxward.attacks.base import AttackResult


@dataclass(frozen=True, eq=False)
class Found:
    """What a trial found on a case, before it is judged.

    Attributes:
        volume: The perturbed volume (1, c, *spatial).
        distance: The norm of the perturbation, in the unit of eps.
        history: The lowest mean Dice after each evaluation, the first of the clean case.
        gradients: Gradients that were computed.
        forwards: Forward passes that were computed.
        seconds: Seconds that it took.
        warnings: What makes it doubtful that an attack shows how robust the model is.
    """

    volume: torch.Tensor
    distance: float
    history: tuple[float, ...] = ()
    gradients: int = 0
    forwards: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: AttackResult) -> Found:
        """Return what an attack on one case found."""
        history = tuple(float(value) for value in result.history[0])
        spent = result.gradients, result.forwards, result.seconds
        return cls(result.adversarial, float(result.distance[0]), history, *spent, result.warnings)
