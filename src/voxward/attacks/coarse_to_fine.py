"""From coarse to fine: an attack that first finds a smooth perturbation, and then goes on from there in every voxel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from voxward.attacks.apgd import APGD
from voxward.attacks.base import Attack, learnt
from voxward.attacks.budget import Budget
from voxward.attacks.coarse import Spline
from voxward.attacks.objectives import OBJECTIVES, create_objective
from voxward.attacks.state import AttackState
from voxward.core.errors import UserError
from voxward.core.model import Head, Inputs


@dataclass(frozen=True)
class CoarseToFine(Attack):
    """Auto-PGD over B-splines on a coarse grid, and then in every voxel, from the best point of the first part.

    What it found on the coarse grid is noted, because that part carries over to other models best (see `Transfer`).

    Attributes:
        objective: A name in `OBJECTIVES`.
        factor: The distance between two points of the grid, as of `Spline`.
        steps: Gradient steps of both parts together, at least 2.
        share: The part of the steps on the coarse grid, above 0 and below 1; both parts have at least one step.

    Raises:
        UserError: A number is illegal, or the objective is unknown.
    """

    norms = ("linf", "l2")
    name = "coarse-to-fine"
    summary = "Coarse to fine: Auto-PGD over smooth fields first, then in every voxel from there"
    noted: ClassVar[int] = 1

    objective: str = "dice"
    factor: int | float = 4
    steps: int = 20
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise UserError(f"steps must be at least 2, one for each part, got {self.steps}")
        if not 0 < self.share < 1:
            raise UserError(f"share must be above 0 and below 1, got {self.share}")
        # Whatever is wrong with the other options is said now.
        assert self.search.objective == self.coarse.objective

    @cached_property
    def search(self) -> APGD:
        """The search of both parts."""
        return APGD(self.objective, self.steps)

    @cached_property
    def coarse(self) -> Spline:
        """The grid of the first part."""
        return Spline(self.objective, self.factor)

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """Return the steps of a budget."""
        return {"steps": budget.steps}

    def check(self, head: Head, classes: int) -> None:
        """Check that the objective works on a model; see `Attack.check`."""
        self.search.check(head, classes)

    def doubts(self, state: AttackState) -> Iterator[str]:
        """Yield what makes it doubtful that the attack learnt from its gradients; see `Attack.doubts`."""
        entry = OBJECTIVES[self.objective]
        yield from learnt(self.name, state, entry.steady, entry.saturates)

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the greatest numbers of gradients and of forward passes; see `Attack.cost`."""
        return self.search.cost(classes)

    def run(self, state: AttackState) -> Inputs:
        """Climb on the grid, then in every voxel, and return the best point seen; see `Attack.run`."""
        loss, first = create_objective(self.objective), min(max(1, round(self.share * self.steps)), self.steps - 1)
        nested = self.coarse.nested(state)
        self.search.climb(nested, nested.ball, nested.ball.reference, loss, (0, 0, first))
        state.noted.append(state.best.clone())
        if not state.finished:
            state.look(self.search.climb(state, state.ball, state.best.clone(), loss, (0, first, self.steps)).x)
        return state.best
