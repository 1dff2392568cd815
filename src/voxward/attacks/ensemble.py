"""Ensembles of independent attacks, as published: AutoAttack's four for volumes, and SEA."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from voxward.attacks.apgd import APGD
from voxward.attacks.base import Attack
from voxward.attacks.budget import Budget as Budget
from voxward.attacks.fab import FabT
from voxward.attacks.random_models import SAMPLES, Averaged, is_random
from voxward.attacks.square import Square
from voxward.attacks.state import JUDGED, AttackState, Counted
from voxward.core.model import Inputs
from voxward.core.registry import Registry

# Radii of the schedule for segmentation (SEA, arXiv 2306.12941): from far outside into the ball.
RADII = (2.0, 1.5, 1.0)

# What SEA maximises, one after the other.
SEA = ("masked-ce", "balanced-ce", "jsd")


def autoattack(classes: int, budget: Budget) -> dict[str, Attack]:
    """AutoAttack for volumes: APGD on cross-entropy and DLR, FAB-T and Square (Croce and Hein 2020).

    With two classes or with regions, where DLR is not defined, APGD maximises the margin instead.

    Args:
        classes: The model's number of classes; 2 for regions.
        budget: What each member may spend.

    Returns:
        The members by name.
    """
    return {
        "apgd-ce": APGD("ce", budget.steps, budget.restarts),
        **_margin(classes, budget),
        "fab-t": FabT(budget.fab_steps, threshold=budget.threshold),
        "square": Square(budget.queries),
    }


def sea(classes: int, budget: Budget) -> dict[str, Attack]:
    """SEA as published: APGD of 300 steps each on three objectives, from random starts, in shrinking balls.

    The objectives are the cross-entropy of the voxels that are still correct, the same with every class weighing the
    same, and the Jensen-Shannon divergence (Croce et al., arXiv 2306.12941). The classes are weighed by how many voxels
    of the case each has, where the paper counts them over the training set.

    Args:
        classes: Not used.
        budget: What each member may spend; that of `OWN_BUDGETS` makes it the published one.

    Returns:
        The members by name.
    """
    return {
        f"sea-{objective}": APGD(objective, budget.steps, budget.restarts, radii=RADII, start="random")
        for objective in SEA
    }


def _margin(classes: int, budget: Budget) -> dict[str, Attack]:
    """APGD on DLR, which needs a third class; on the margin for two classes or regions."""
    objective = "dlr" if classes > 2 else "margin"
    return {f"apgd-{objective}": APGD(objective, budget.steps, budget.restarts)}


ENSEMBLES: Registry[Callable[[int, Budget], Mapping[str, Attack]]] = Registry(
    "ensemble", {"autoattack": autoattack, "sea-300": sea}
)

OWN_BUDGETS: Mapping[str, Budget] = {"sea-300": Budget(steps=300)}
"""The budgets of the ensembles that do not follow a protocol's, because their names say what they spend."""


def members_of(kind: str, classes: int, budget: Budget) -> Mapping[str, Attack]:
    """Return the members of an ensemble by name.

    Args:
        kind: A name in `ENSEMBLES`.
        classes: The model's number of classes; 2 for regions.
        budget: What each member may spend, unless the ensemble has a budget of its own.
    """
    return ENSEMBLES[kind](classes, OWN_BUDGETS.get(kind, budget))


def describe() -> dict[str, str]:
    """Return what each ensemble holds, in one line per name."""
    return {name: (inspect.getdoc(build) or "").partition("\n")[0] for name, build in ENSEMBLES.items()}


WITH_OTHERS = frozenset({"strong", "fast"})
"""The attacks that are one figure together with all others of a protocol, that of a surrogate included."""


@dataclass(frozen=True)
class Ensemble(Attack):
    """Runs every member on every case, each from the reference; the lowest Dice of each case counts.

    If the model is random, the mean of `SAMPLES` answers is attacked instead (expectation over transformation).

    Attributes:
        kind: A name in `ENSEMBLES`.
        budget: What each member may spend.
    """

    summary = "Ensemble: several attacks, of which the lowest Dice of each case counts"

    kind: str
    budget: Budget = field(default_factory=Budget)

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """Return every part of a budget, because the members need all of them."""
        return {part.name: getattr(budget, part.name) for part in fields(budget)}

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return the ensemble's name."""
        return self.kind

    def members(self, classes: int) -> Mapping[str, Attack]:
        """Return the members by name.

        Args:
            classes: The model's number of classes; 2 for regions.
        """
        return ENSEMBLES[self.kind](classes, self.budget)

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the sums of the members' greatest costs for a model that is not random; see `Attack.cost`."""
        costs = [attack.cost(classes) for attack in self.members(classes).values()]
        return sum(gradients for gradients, _ in costs), sum(forwards for _, forwards in costs) + JUDGED

    def run(self, state: AttackState) -> Inputs:
        """Run the members one after the other until no case has any Dice left; see `Attack.run`."""
        members = self.members(state.start.logits.shape[1] if state.model.head == "softmax" else 2)
        base = expected(state)
        for n, attack in enumerate(members.values()):
            if state.finished:
                break
            alone = replace(base, generator=torch.Generator().manual_seed(state.generator.initial_seed()))
            attack.settle(alone)
            state.keep(alone)
            state.report(n + 1, len(members))
        return state.best


def expected(state: AttackState) -> AttackState:
    """Return a state of the same attack; of a random model it attacks the mean of several answers.

    Args:
        state: The state. It notes whether the mean is attacked, and its model counts each answer.
    """
    state.averaged |= is_random(state.model, state.start.volume)
    if not state.averaged or isinstance(state.model.inner, Averaged):
        return state
    model = Counted(Averaged(state.model, SAMPLES))
    return replace(state, model=model, start=model.sweep(state.start.volume))
