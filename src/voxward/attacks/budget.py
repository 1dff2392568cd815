"""What an attack may spend."""

from __future__ import annotations

from dataclasses import dataclass

from voxward.core.errors import UserError


@dataclass(frozen=True)
class Budget:
    """What each member of an ensemble may spend on a case and an eps.

    steps: gradients of an APGD run; restarts: its runs; queries: forwards of Square; fab_steps: gradients of FAB.
    threshold: the Dice under which a case counts as broken (FAB's goal); None: half of the case's clean Dice.
    """

    steps: int = 20
    restarts: int = 1
    queries: int = 500
    fab_steps: int = 20
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "queries", "fab_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
