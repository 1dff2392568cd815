"""Ensembles of attacks: AutoAttack's four for volumes, and the stronger set for segmentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from voxward.attacks.apgd import APGD
from voxward.attacks.base import Attack
from voxward.attacks.budget import Budget as Budget
from voxward.attacks.fab import FabDice, FabT
from voxward.attacks.random_models import SAMPLES, Averaged, is_random
from voxward.attacks.square import Square
from voxward.attacks.state import JUDGED, AttackState, Counted
from voxward.core.model import Inputs
from voxward.core.registry import Registry

# Radii of the schedule for segmentation (SEA, arXiv 2306.12941): from far outside into the ball.
RADII = (2.0, 1.5, 1.0)


def autoattack(classes: int, budget: Budget) -> dict[str, Attack]:
    """APGD on CE and DLR (two classes or regions: margin), FAB-T and Square (Croce & Hein 2020), for volumes."""
    return {
        "apgd-ce": APGD("ce", budget.steps, budget.restarts),
        **_margin(classes, budget),
        "fab-t": FabT(budget.fab_steps, threshold=budget.threshold),
        "square": Square(budget.queries),
    }


def strong(classes: int, budget: Budget) -> dict[str, Attack]:
    """APGD with radii on balanced masked CE, JSD and soft Dice; APGD on soft Dice and on DLR; FAB-Dice; Square.

    With few steps the radius schedule is the weaker one on soft Dice, so that both are run; and where an attack leaves
    next to nothing, DLR sometimes leaves the least.
    """
    return {
        "apgd-balanced-ce-radii": APGD("balanced-ce", budget.steps, budget.restarts, radii=RADII),
        "apgd-jsd-radii": APGD("jsd", budget.steps, budget.restarts, radii=RADII),
        "apgd-dice-radii": APGD("dice", budget.steps, budget.restarts, radii=RADII),
        "apgd-dice": APGD("dice", budget.steps, budget.restarts),
        **_margin(classes, budget),
        "fab-dice": FabDice(budget.fab_steps, threshold=budget.threshold),
        "square": Square(budget.queries),
    }


def _margin(classes: int, budget: Budget) -> dict[str, Attack]:
    """DLR needs a third class; the margin is its like for two classes or regions."""
    objective = "dlr" if classes > 2 else "margin"
    return {f"apgd-{objective}": APGD(objective, budget.steps, budget.restarts)}


ENSEMBLES: Registry[Callable[[int, Budget], Mapping[str, Attack]]] = Registry(
    "ensemble", {"autoattack": autoattack, "strong": strong}
)


def describe() -> dict[str, str]:
    """X."""
    return {name: (inspect.getdoc(build) or "").partition("\n")[0] for name, build in ENSEMBLES.items()}


@dataclass(frozen=True)
class Ensemble(Attack):
    """Every member on every case, each from the reference; the lowest Dice of all is the result.

    Of a model that answers at random the mean of SAMPLES answers is attacked (expectation over transformation).
    """

    summary = "Runs several attacks and keeps the lowest Dice of each case"

    kind: str
    budget: Budget = field(default_factory=Budget)

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """X."""
        return {part.name: getattr(budget, part.name) for part in fields(budget)}

    @property
    def name(self) -> str:  # type: ignore[override]
        """The ensemble's name."""
        return self.kind

    def members(self, classes: int) -> Mapping[str, Attack]:
        """The attacks for a model of so many classes or regions."""
        return ENSEMBLES[self.kind](classes, self.budget)

    def cost(self, classes: int) -> tuple[int, int]:
        """See Attack; of a model that is not random."""
        costs = [attack.cost(classes) for attack in self.members(classes).values()]
        return sum(gradients for gradients, _ in costs), sum(forwards for _, forwards in costs) + JUDGED

    def run(self, state: AttackState) -> Inputs:
        """See Attack."""
        members = self.members(state.start.logits.shape[1] if state.model.head == "softmax" else 2)
        base = _averaged(state) if is_random(state.model, state.ball.reference) else state
        for n, attack in enumerate(members.values()):
            if state.finished:
                break
            alone = replace(base, generator=torch.Generator().manual_seed(state.generator.initial_seed()))
            attack.settle(alone)
            state.keep(alone)
            state.report(n + 1, len(members))
        return state.best


def _averaged(state: AttackState) -> AttackState:
    """The same search on the mean of several answers; the counted model is inside, so that each answer is booked."""
    model = Counted(Averaged(state.model, SAMPLES))
    return replace(state, model=model, start=model.sweep(state.ball.reference))
