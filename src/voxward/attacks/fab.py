"""The smallest perturbation that breaks a case: FAB (Croce and Hein 2020, arXiv 1907.02044) for segmentation.

FAB linearises a decision function at the current point, projects the point and the reference onto the plane where the
linearisation is zero, and goes to a mixture of both. From a broken point it steps back towards the reference. A case is
broken if the Dice of its final mask is below a threshold.

`fab-t` takes the published decision function, the margin to one other class, as a mean over all voxels. The Dice of a
case is lost long before that mean changes its sign, so it finds far points (ROG saw no effect at all within its eps).

`fab-dice` linearises the Dice itself. The Dice that is judged is a step function, so the gradient is that of the soft
Dice, while the distance still to go is the hard Dice minus the threshold. To aim at a fixed level of the soft Dice
would be off by the gap between the two, which depends on the model's confidence and changes with the point. The hard
Dice is measured at every point, so the aim closes in on the judged boundary whatever that gap is.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from voxward.attacks.base import Attack, give, remarks
from voxward.attacks.budget import Budget
from voxward.attacks.criteria import judge
from voxward.attacks.fab_boundary import (
    AIM,
    HALVINGS,
    NARROWINGS,
    Decision,
    Hunt,
    approach,
    begin_at,
    push,
    shrink,
    soft_dice,
    straighten,
    without_radius,
)
from voxward.attacks.state import JUDGED, AttackState
from voxward.attacks.threat import ThreatModel
from voxward.core.errors import UserError
from voxward.core.model import Inputs, Objective, Truth, Values, VolumeModel, annotated_part
from voxward.core.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class MinimumNormResult:
    """The smallest perturbations found, per case of the batch.

    Attributes:
        attack: The attack's name.
        threat: The threat model, whose eps plays no part.
        adversarial: The broken volumes (b, c, *spatial); the reference where none was found.
        distance: The norm of the perturbation (b) in the threat model's unit; 0 where the reference is broken already,
            inf where nothing was found.
        dice: The Dice (b) of the final mask of `adversarial`, judged once more at the end.
        threshold: The Dice (b) below which a case is broken.
        gradients: Evaluations of the whole batch with a gradient.
        forwards: Evaluations of the whole batch without a gradient.
        seconds: Wall-clock time.
        warnings: What makes it doubtful that there is no smaller perturbation, one sentence each.
    """

    attack: str
    threat: ThreatModel
    adversarial: Inputs
    distance: Values
    dice: Values
    threshold: Values
    gradients: int
    forwards: int
    seconds: float
    warnings: tuple[str, ...] = ()


class MinimumNorm(Attack):
    """The base class of attacks that find the smallest perturbation that breaks a case, whatever eps is.

    Called like any attack, it projects that perturbation into the ball.

    Attributes:
        steps: Steps per decision function and restart, each one gradient and one forward pass, at least 1.
        restarts: At least 1. The first restart begins at the reference, the others at random points within half the
            smallest distance so far, because one start may end in a local minimum.
        threshold: The Dice below which a case is broken, above 0 and at most 1. None: half of the case's clean Dice. (A
            benchmark gives half of mu, the mean over the cases.)

    Raises:
        UserError: A number is out of range.
    """

    norms = ("linf", "l2")
    steps: int
    restarts: int
    threshold: float | None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise UserError(f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UserError(f"threshold must be a Dice above 0 and at most 1, got {self.threshold}")

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """Return the FAB steps and the threshold of a budget."""
        return {"steps": budget.fab_steps, "threshold": budget.threshold}

    @abstractmethod
    def decisions(self, hunt: Hunt) -> Iterator[Decision]:
        """Yield the decision functions, which are tried one after the other.

        Args:
            hunt: The smallest broken points so far.
        """

    def functions(self, classes: int) -> int:
        """Return the number of decision functions.

        Args:
            classes: The model's number of classes; for regions, their number plus one.
        """
        return 1

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the greatest cost without `push`, which is for cases that nothing else breaks; see `Attack.cost`."""
        functions = self.functions(classes)
        lines = NARROWINGS + 2 * HALVINGS + 1
        return self.restarts * (functions * self.steps + 1), self.restarts * (functions * self.steps + lines) + JUDGED

    def run(self, state: AttackState) -> Inputs:
        """Return the smallest broken points; calling the attack projects them into the ball. See `Attack.run`."""
        return self._hunt(state).point

    def smallest(
        self,
        model: VolumeModel,
        volume: Inputs,
        target: Truth,
        threat: ThreatModel,
        seed: int = 0,
        progress: Progress = silent,
        *,
        warn: bool = True,
    ) -> MinimumNormResult:
        """Find the smallest perturbation that breaks each case, inside the threat model's range of legal intensities.

        The eps of the threat model plays no part.

        Args:
            model: The attacked model.
            volume: Intensities (b, c, *spatial), finite, in the unit of the threat model's bounds.
            target: The ground truth.
            threat: The norm, the unit and the legal intensities.
            seed: The seed of every random number.
            progress: What reports of progress go to.
            warn: Whether the result's warnings are given as Python warnings, too.

        Returns:
            The broken volumes with their distances, what they cost, and what makes them doubtful.

        Raises:
            UserError: As for a call of the attack.

        Warns:
            UserWarning: The attack may have learnt nothing (see `MinimumNormResult.warnings`).
        """
        began = time.perf_counter()
        state = self.begin(model, volume, target, threat, without_radius(threat.ball(volume)), seed, progress)
        counted, hunt = state.model, self._hunt(state)
        state.warnings += self.doubts(state)
        dice = judge(counted, counted.logits(hunt.point), target)
        distance = torch.where(hunt.breaks(dice), hunt.distance, torch.inf)
        result = MinimumNormResult(
            attack=self.name,
            threat=threat,
            adversarial=hunt.point,
            distance=distance,
            dice=dice,
            threshold=hunt.threshold,
            gradients=counted.gradients,
            forwards=counted.forwards,
            seconds=time.perf_counter() - began,
            warnings=remarks(self.name, state),
        )
        if warn:
            give(result.warnings, stacklevel=3)
        return result

    def _hunt(self, state: AttackState) -> Hunt:
        clean = state.clean_dice
        threshold = clean / 2 if self.threshold is None else torch.full_like(clean, self.threshold)
        hunt = Hunt(state, without_radius(state.ball), threshold)
        for restart in range(self.restarts if bool((hunt.distance > 0).any()) else 0):
            for decision in self.decisions(hunt):
                approach(hunt, decision, begin_at(hunt, restart), self.steps)
                state.report(restart + 1, self.restarts)
            shrink(hunt)
            if not bool(hunt.distance.isfinite().all()):
                push(hunt)
                shrink(hunt)
            straighten(hunt)
        return hunt


@dataclass(frozen=True)
class FabT(MinimumNorm):
    """FAB-T: the mean over all voxels of the margin between the true class and the c-th likeliest other, c = 1..K-1.

    The others are ranked by the reference's logits, per voxel, as AutoAttack's target classes are. For regions it is
    the mean margin (2 t - 1) z of one region after the other.

    Attributes:
        steps: Steps per decision function and restart.
        restarts: At least 1.
        threshold: The Dice below which a case is broken; None: half of the case's clean Dice.
    """

    steps: int = 20
    restarts: int = 1
    threshold: float | None = None
    name = "fab-t"
    summary = "FAB-T: the smallest perturbation that breaks a case, by the margin of the logits"

    def functions(self, classes: int) -> int:
        """Return one decision function per other class, or per region.

        Args:
            classes: The model's number of classes; for regions, their number plus one.
        """
        return classes - 1

    def decisions(self, hunt: Hunt) -> Iterator[Decision]:
        """Yield K - 1 decision functions, or one per region; see `MinimumNorm.decisions`."""
        logits, target = hunt.state.start.logits, hunt.state.target
        if hunt.state.model.head == "regions":
            for region in range(logits.shape[1]):
                yield Decision(_region_margin(region), lambda values, dice: values)
            return
        truth = annotated_part(target)[0]
        others = logits.scatter(1, truth[:, None], -torch.inf).argsort(1, descending=True)
        for rank in range(logits.shape[1] - 1):
            yield Decision(_margin_to(others[:, rank : rank + 1]), lambda values, dice: values)


@dataclass(frozen=True)
class FabDice(MinimumNorm):
    """FAB on the Dice: the slope of the soft Dice, and the distance still to go of the hard one (see the module).

    Attributes:
        steps: Steps per restart.
        restarts: At least 1.
        threshold: The Dice below which a case is broken; None: half of the case's clean Dice.
    """

    steps: int = 20
    restarts: int = 1
    threshold: float | None = None
    name = "fab-dice"
    summary = "FAB-Dice: the smallest perturbation that breaks a case, by the slope of the soft Dice"

    def decisions(self, hunt: Hunt) -> Iterator[Decision]:
        """Yield the one decision function, the Dice; see `MinimumNorm.decisions`."""
        yield Decision(soft_dice, lambda values, dice: dice - AIM * hunt.threshold)


def _margin_to(other: Tensor) -> Objective:
    """Mean over the annotated voxels of the true class's logit minus that of class `other` (b, 1, *spatial)."""

    def mean_margin(logits: Tensor, target: Tensor) -> Tensor:
        truth, known = annotated_part(target)
        return _mean((logits.gather(1, truth[:, None]) - logits.gather(1, other))[:, 0], known)

    return mean_margin


def _region_margin(region: int) -> Objective:
    """Mean over the annotated voxels of a region's margin (2 t - 1) z."""

    def mean_margin(logits: Tensor, target: Tensor) -> Tensor:
        truth, known = annotated_part(target[:, region])
        return _mean((2 * truth - 1) * logits[:, region], known)

    return mean_margin


def _mean(values: Tensor, known: Tensor | None) -> Tensor:
    """Mean over the annotated voxels of each case; None: over all."""
    if known is None:
        return values.flatten(1).mean(1)
    return (values * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
