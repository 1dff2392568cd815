"""Projected gradient ascent with a fixed step: FGSM, I-FGSM, PGD, SegPGD and CosPGD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from voxward.attacks.base import Attack, learnt
from voxward.attacks.budget import Budget
from voxward.attacks.objectives import OBJECTIVES, Loss, Weights, at, check_objective, create_objective
from voxward.attacks.state import JUDGED, AttackState
from voxward.attacks.threat import Ball
from voxward.core.errors import UserError
from voxward.core.model import Head, Inputs


@dataclass(frozen=True)
class GradientAscent(Attack):
    """The base class of attacks that take steps of fixed length along the projected gradient of an objective.

    The cost per restart is one gradient per step, and one forward pass for the last point.

    Attributes:
        family: The first part of the name.
        path: The length of all steps together, in eps, if `alpha` is None.
        objective: A name in `OBJECTIVES`.
        class_weights: Weights of the classes or regions in the objective; None: 1 each.
        steps: Steps per restart, at least 1.
        alpha: Length of a step, in the unit of the threat model's eps, above 0. None spreads a path of `path` eps over
            the steps.
        restarts: At least 1.

    Raises:
        UserError: A number is not positive, or the objective is unknown.
    """

    family: ClassVar[str]
    path: ClassVar[float]

    objective: str = "ce"
    class_weights: Weights = None
    steps: int = 1
    alpha: float | None = None
    restarts: int = 1

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts) < 1:
            raise UserError(f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}")
        if self.alpha is not None and not self.alpha > 0:
            raise UserError(f"alpha must be above 0, got {self.alpha}")
        create_objective(self.objective, self.class_weights)

    @property
    def name(self) -> str:  # type: ignore[override]  # composed, and nobody sets it
        """Return the family with the objective, such as `pgd-ce`."""
        return self.family if self.family == self.objective else f"{self.family}-{self.objective}"

    def check(self, head: Head, classes: int) -> None:
        """Check that the objective works on a model; see `Attack.check`."""
        check_objective(create_objective(self.objective, self.class_weights), head, classes)

    def doubts(self, state: AttackState) -> Iterator[str]:
        """Yield what makes it doubtful that the attack learnt from its gradients; see `Attack.doubts`."""
        entry = OBJECTIVES[self.objective]
        yield from learnt(self.name, state, entry.steady, entry.saturates)

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the greatest numbers of gradients and of forward passes; see `Attack.cost`."""
        return self.restarts * self.steps, self.restarts + JUDGED

    def start(self, state: AttackState) -> Inputs:
        """Return the first point of a restart, here the reference (b, c, *spatial).

        Args:
            state: The attack's state.
        """
        return state.ball.reference

    def length(self, ball: Ball) -> float | Tensor:
        """Return the length of a step in eps.

        Args:
            ball: The legal volumes.
        """
        return self.path / self.steps if self.alpha is None else self.alpha / ball.radius

    def run(self, state: AttackState) -> Inputs:
        """Take the steps of each restart, and return the best point seen; see `Attack.run`."""
        loss = create_objective(self.objective, self.class_weights)
        for restart in range(self.restarts):
            self._ascend(state, loss, restart * self.steps)
        return state.best

    def _ascend(self, state: AttackState, loss: Loss, before: int) -> None:
        ball, length, x = state.ball, self.length(state.ball), self.start(state)
        for step in range(self.steps):
            if state.finished:
                return
            _, _, gradient = state.gradient(x, at(loss, step / self.steps))
            x = ball.project(x + length * ball.step(gradient))
            state.report(before + step + 1, self.steps * self.restarts)
        if not state.finished:
            state.look(x)


@dataclass(frozen=True)
class FGSM(GradientAscent):
    """One step of eps along the sign of the gradient (Goodfellow et al. 2015).

    Attributes:
        objective: A name in `OBJECTIVES`.
        class_weights: Weights of the classes or regions in the objective; None: 1 each.
        steps: Always 1.
        alpha: Always None, that is one eps.
        restarts: Always 1.
    """

    family = "fgsm"
    path = 1.0
    summary = "FGSM: one step of eps along the sign of the gradient"

    steps: int = field(default=1, init=False)
    alpha: float | None = field(default=None, init=False)
    restarts: int = field(default=1, init=False)

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """Return no options, because FGSM always takes one step."""
        return {}

    def doubled(self) -> IFGSM:
        """Return I-FGSM with two steps, because FGSM always takes one; see `Attack.doubled`."""
        return IFGSM(self.objective, self.class_weights, steps=2)


@dataclass(frozen=True)
class IFGSM(GradientAscent):
    """FGSM in small steps from the reference (Kurakin et al. 2017).

    Attributes:
        objective: A name in `OBJECTIVES`.
        class_weights: Weights of the classes or regions in the objective; None: 1 each.
        steps: At least 1.
        alpha: Length of a step, in the unit of eps; None: 1.25 eps / steps.
        restarts: Always 1.
    """

    family = "ifgsm"
    path = 1.25
    summary = "I-FGSM: small sign steps from the reference"

    steps: int = 20
    restarts: int = field(default=1, init=False)

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """Return the steps of a budget; there are no restarts, because the start is not random."""
        return {"steps": budget.steps}


@dataclass(frozen=True)
class PGD(GradientAscent):
    """Steps along the projected gradient from random points of the ball (Madry et al. 2018).

    Attributes:
        objective: A name in `OBJECTIVES`.
        class_weights: Weights of the classes or regions in the objective; None: 1 each.
        steps: Steps per restart, at least 1.
        alpha: Length of a step, in the unit of eps; None: 2.5 eps / steps.
        restarts: At least 1.
    """

    family = "pgd"
    path = 2.5
    summary = "PGD: projected gradient steps from a random start"
    norms = ("linf", "l2")

    steps: int = 20

    def start(self, state: AttackState) -> Inputs:
        """Return a random point of the ball (b, c, *spatial).

        Args:
            state: The attack's state.
        """
        return state.ball.random(state.generator)


@dataclass(frozen=True)
class SegPGD(PGD):
    """PGD on a cross-entropy whose weight moves from the correct to the wrong voxels (Gu et al. 2022).

    Attributes:
        objective: Always `segpgd`; the other options are those of PGD.
    """

    family = "segpgd"
    summary = "SegPGD: PGD whose weight moves from the correct to the wrong voxels"

    objective: str = field(default="segpgd", init=False)


@dataclass(frozen=True)
class CosPGD(PGD):
    """PGD on a cross-entropy weighted by how well each voxel is still predicted (Agnihotri et al. 2024).

    Attributes:
        objective: Always `cospgd`; the other options are those of PGD.
    """

    family = "cospgd"
    summary = "CosPGD: PGD that weights each voxel by how well it is still predicted"

    objective: str = field(default="cospgd", init=False)
