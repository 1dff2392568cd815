"""What an attack may spend on a case."""

from __future__ import annotations

from dataclasses import dataclass, replace

from voxward.core.errors import UserError

BUDGETED = ("steps", "queries", "fab_steps")
"""What a longer search has more of."""


@dataclass(frozen=True)
class Budget:
    """What an attack, or each member of an ensemble, may spend on a case and an eps.

    Attributes:
        steps: Gradient steps of PGD, APGD and I-FGSM, per restart.
        restarts: Restarts of PGD and APGD.
        queries: Forward passes of Square.
        fab_steps: Steps of FAB.
        threshold: The Dice below which FAB calls a case broken, above 0 and at most 1. None: half of the case's clean
            Dice.

    Raises:
        UserError: A number is below 1.
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

    def doubled(self) -> Budget:
        """Return twice the budget: twice the steps and the queries, of as many restarts."""
        return replace(self, **{name: 2 * getattr(self, name) for name in BUDGETED})
