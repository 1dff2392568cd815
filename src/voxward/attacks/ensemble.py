"""Ensembles of attacks: AutoAttack's four for volumes, and the stronger set for segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from voxward.attacks.apgd import APGD
from voxward.attacks.base import JUDGED, Attack, Counted, Search
from voxward.attacks.fab import FabDice, FabT
from voxward.attacks.random_models import SAMPLES, Averaged, is_random
from voxward.attacks.square import Square
from voxward.core.errors import UserError
from voxward.core.model import Inputs
from voxward.core.registry import Registry

# Radii of the schedule for segmentation (SEA, arXiv 2306.12941): from far outside into the ball.
RADII = (2.0, 1.5, 1.0)


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


@dataclass(frozen=True)
class Ensemble(Attack):
    """Every member on every case, each from the reference; the lowest Dice of all is the result.

    Of a model that answers at random the mean of SAMPLES answers is attacked (expectation over transformation).
    """

    kind: str
    budget: Budget = Budget()

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

    def run(self, search: Search) -> Inputs:
        """See Attack."""
        members = self.members(search.start.logits.shape[1] if search.model.head == "softmax" else 2)
        base = _averaged(search) if is_random(search.model, search.ball.reference) else search
        for n, attack in enumerate(members.values()):
            if search.finished:
                break
            alone = replace(base, generator=torch.Generator().manual_seed(search.generator.initial_seed()))
            attack.settle(alone)
            search.keep(alone)
            search.report(n + 1, len(members))
        return search.best


def _averaged(search: Search) -> Search:
    """The same search on the mean of several answers; the counted model is inside, so that each answer is booked."""
    model = Counted(Averaged(search.model, SAMPLES))
    return replace(search, model=model, start=model.sweep(search.ball.reference))
