"""What every attack shares: checks, the books of what was spent, re-projection and re-judging."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from voxward.attacks.budget import Budget
from voxward.attacks.criteria import judge
from voxward.attacks.state import AttackState, Counted
from voxward.attacks.threat import Ball, ThreatModel
from voxward.core.errors import UserError
from voxward.core.model import Head, Inputs, Scores, Truth, Values, VolumeModel
from voxward.core.progress import Progress, silent
from voxward.core.structure import to_data


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack found, per case of the batch.

    adversarial: inside the ball of `threat`. dice: of its final mask, judged anew; clean_dice: of the reference.
    distance: norm of the perturbation in the unit of eps. history: lowest Dice seen after each evaluation of the
    model's logits (the first is the reference), one row per case; None where the attack keeps none. gradients,
    forwards: evaluations of the whole batch with and without gradient (a local update counts as a whole one).
    """

    attack: str
    threat: ThreatModel
    adversarial: Inputs
    dice: Values
    clean_dice: Values
    distance: Values
    history: Tensor
    gradients: int
    forwards: int
    seconds: float


class Attack(ABC):
    """An attack: subclasses are frozen dataclasses of their options and search in `run`.

    Calling it never trusts `run`: what comes back is projected into the ball and judged again, and the lowest Dice of
    it, the best point noted on the way and the reference is the result.
    """

    name: str
    summary: ClassVar[str]
    norms: tuple[str, ...] = ("linf",)
    needs_gradient: bool = True

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """X."""
        return {"steps": budget.steps, "restarts": budget.restarts}

    @abstractmethod
    def run(self, state: AttackState) -> Inputs:
        """AttackState; return a volume (b, c, *spatial), usually `state.best`."""

    def check(self, head: Head, classes: int) -> None:  # noqa: B027 (most attacks work on every model)
        """Raise ValueError when this attack cannot work on a head of so many classes or regions."""

    @abstractmethod
    def cost(self, classes: int) -> tuple[int, int]:
        """Gradients and forwards at most, on a model of so many classes (one more than regions)."""

    def options(self) -> dict[str, Any]:
        """The attack's options as plain data, for the books."""
        return dict(to_data(self))

    def settle(self, state: AttackState) -> None:
        """Run the state, and look at what it returned once projected, whatever it claims."""
        if state.finished:
            return
        returned = self.run(state).detach()
        # Compared before it is projected: twice projected may differ by an ulp, which is not worth a forward.
        if not torch.equal(returned, state.best):
            state.look(state.ball.project(returned))

    def begin(
        self,
        model: VolumeModel,
        volume: Inputs,
        target: Truth,
        threat: ThreatModel,
        ball: Ball,
        seed: int,
        progress: Progress,
    ) -> AttackState:
        """Check everything and evaluate the reference of `ball`."""
        if threat.norm not in self.norms:
            raise UserError(f"{self.name} knows the norms {', '.join(self.norms)}, got {threat.norm!r}")
        if not bool(torch.isfinite(volume).all()):
            raise UserError("volume holds NaN or infinite voxels")
        counted = Counted(model)
        start = counted.sweep(ball.reference)
        check_logits(start.logits, target, model.head)
        self.check(model.head, start.logits.shape[1])
        return AttackState(counted, target, ball, torch.Generator().manual_seed(seed), start, progress, self.name)

    def __call__(
        self,
        model: VolumeModel,
        volume: Inputs,
        target: Truth,
        threat: ThreatModel,
        seed: int = 0,
        progress: Progress = silent,
    ) -> AttackResult:
        """Attack a batch of cases, each on its own.

        volume: (b, c, *spatial) intensities, finite, in the unit of the threat's bounds. target: see core.model.Truth.
        Raises ValueError for a norm this attack does not know, a threat without bounds, a target that does not fit, a
        volume that is not finite, and a model that returns probabilities instead of logits.
        """
        began = time.perf_counter()
        state = self.begin(model, volume, target, threat, threat.ball(volume), seed, progress)
        if threat.eps > 0:
            self.settle(state)
        done, total = state.done
        if 0 < done < total:  # nothing was left to lose
            state.report(total, total)
        return _judged(self.name, threat, state, began)


def _judged(name: str, threat: ThreatModel, state: AttackState, began: float) -> AttackResult:
    """The best point of a state, projected and judged once more from scratch."""
    final = state.ball.project(state.best)
    dice = judge(state.model, state.model.logits(final), state.target)
    return AttackResult(
        attack=name,
        threat=threat,
        adversarial=final,
        dice=dice,
        clean_dice=state.clean_dice,
        distance=state.ball.distance(final),
        history=torch.stack(state.history, 1),
        gradients=state.model.gradients,
        forwards=state.model.forwards,
        seconds=time.perf_counter() - began,
    )


def check_logits(logits: Scores, target: Truth, head: Head) -> None:
    """Raise ValueError when the target does not fit the logits, or these look like probabilities."""
    expected = logits.shape if head == "regions" else (logits.shape[0], *logits.shape[2:])
    if tuple(target.shape) != tuple(expected):
        raise UserError(f"a {head} target must have shape {tuple(expected)}, got {tuple(target.shape)}")
    most = 1 if head == "regions" else logits.shape[1] - 1
    if target.numel() and not 0 <= int(target.min()) <= int(target.max()) <= most:
        raise UserError(f"target must hold 0 to {most}, got {int(target.min())} to {int(target.max())}")
    if not bool(torch.isfinite(logits).all()):
        raise UserError("the model returns NaN or infinite logits")
    if looks_like_probabilities(logits, head):
        raise UserError("the model returns probabilities, not logits: attack the network without its last activation")


def looks_like_probabilities(logits: Scores, head: Head) -> bool:
    """Whether all values lie in 0..1 and, for a softmax head, sum to 1 in every voxel.

    A region head's logits are negative wherever a region is not, so none below 0 means a sigmoid was applied.
    """
    low, high = logits.aminmax()
    if low < 0 or high > 1:
        return False
    if head == "regions":
        return True
    return bool(torch.allclose(logits.sum(1), torch.ones_like(logits[:, 0]), atol=1e-3))
