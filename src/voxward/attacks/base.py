"""What every attack shares: checks, the books of what was spent, re-projection and re-judging."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from voxward.attacks.criteria import judge
from voxward.attacks.threat import Ball, ThreatModel
from voxward.core.errors import UserError
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, Values, VolumeModel
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


# Forwards that every attack spends: the reference at the start, what `run` returned, and the best point at the end.
JUDGED = 3


class Counted:
    """A VolumeModel that counts what it is asked for."""

    def __init__(self, model: VolumeModel) -> None:
        self.model = model
        self.gradients = 0
        self.forwards = 0

    @property
    def head(self) -> Head:
        """See VolumeModel."""
        return self.model.head

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """See VolumeModel."""
        self.gradients += 1
        return self.model.value_and_grad(volume, target, objective)

    def logits(self, volume: Inputs) -> Scores:
        """See VolumeModel."""
        self.forwards += 1
        return self.model.logits(volume)

    def sweep(self, volume: Inputs) -> Swept:
        """See VolumeModel."""
        self.forwards += 1
        return self.model.sweep(volume)

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """See VolumeModel."""
        self.forwards += 1
        return self.model.logits_after(before, volume, box)

    def segment(self, logits: Scores) -> Truth:
        """See VolumeModel."""
        return self.model.segment(logits)


@dataclass(eq=False)
class Search:
    """One attack's work on a batch: the counted model, the goal, and the lowest Dice found so far.

    The attacks evaluate through `gradient`, `look` or their own calls followed by `offer`; so the best legal point is
    kept whatever they do. `best` and `best_dice` start at the reference.
    """

    model: Counted
    target: Truth
    ball: Ball
    generator: torch.Generator
    start: Swept
    progress: Progress
    name: str
    best: Tensor = field(init=False)
    best_dice: Tensor = field(init=False)
    clean_dice: Tensor = field(init=False)
    history: list[Tensor] = field(init=False)
    done: tuple[int, int] = field(default=(0, 1), init=False)

    def __post_init__(self) -> None:
        self.best = self.ball.reference.clone()
        self.clean_dice = judge(self.model, self.start.logits, self.target)
        self.best_dice = self.clean_dice.clone()
        self.history = [self.best_dice.clone()]

    @property
    def finished(self) -> bool:
        """Whether no case has any Dice left to lose."""
        return bool((self.best_dice <= 0).all())

    def gradient(self, volume: Inputs, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Logits, value and gradient at a legal volume, whose Dice is noted."""
        logits, values, gradient = self.model.value_and_grad(volume, self.target, objective)
        self.offer(volume, logits)
        return logits, values, gradient

    def look(self, volume: Inputs) -> Scores:
        """Logits at a legal volume, whose Dice is noted."""
        logits = self.model.logits(volume)
        self.offer(volume, logits)
        return logits

    def offer(self, volume: Inputs, logits: Scores) -> Values:
        """Note the Dice of a volume that was evaluated; it is kept where it is legal and lower. Returns the Dice."""
        dice = judge(self.model, logits, self.target)
        lower = (dice < self.best_dice) & self.ball.holds(volume)
        if bool(lower.any()):
            self.best[lower] = volume[lower]
            self.best_dice[lower] = dice[lower]
        self.history.append(self.best_dice.clone())
        return dice

    def keep(self, other: Search) -> None:
        """Take over what another search on the same batch and ball has found."""
        lower = other.best_dice < self.best_dice
        self.best[lower] = other.best[lower]
        self.best_dice[lower] = other.best_dice[lower]
        self.history += [torch.minimum(earlier, self.history[-1]) for earlier in other.history[1:]]

    def report(self, done: int, total: int) -> None:
        """Show how far this attack is, and the lowest mean Dice so far."""
        self.done = done, total
        self.progress(self.name, done, total, dice=float(self.best_dice.mean()))


class Attack(ABC):
    """An attack: subclasses are frozen dataclasses of their options and search in `run`.

    Calling it never trusts `run`: what comes back is projected into the ball and judged again, and the lowest Dice of
    it, the best point noted on the way and the reference is the result.
    """

    name: str
    norms: tuple[str, ...] = ("linf",)
    needs_gradient: bool = True

    @abstractmethod
    def run(self, search: Search) -> Inputs:
        """Search; return a volume (b, c, *spatial), usually `search.best`."""

    def check(self, head: Head, classes: int) -> None:  # noqa: B027 (most attacks work on every model)
        """Raise ValueError when this attack cannot work on a head of so many classes or regions."""

    @abstractmethod
    def cost(self, classes: int) -> tuple[int, int]:
        """Gradients and forwards at most, on a model of so many classes (one more than regions)."""

    def options(self) -> dict[str, Any]:
        """The attack's options as plain data, for the books."""
        return dict(to_data(self))

    def settle(self, search: Search) -> None:
        """Run the search, and look at what it returned once projected, whatever it claims."""
        if search.finished:
            return
        returned = self.run(search).detach()
        # Compared before it is projected: twice projected may differ by an ulp, which is not worth a forward.
        if not torch.equal(returned, search.best):
            search.look(search.ball.project(returned))

    def begin(
        self,
        model: VolumeModel,
        volume: Inputs,
        target: Truth,
        threat: ThreatModel,
        ball: Ball,
        seed: int,
        progress: Progress,
    ) -> Search:
        """Check everything and evaluate the reference of `ball`."""
        if threat.norm not in self.norms:
            raise UserError(f"{self.name} knows the norms {', '.join(self.norms)}, got {threat.norm!r}")
        if not bool(torch.isfinite(volume).all()):
            raise UserError("volume holds NaN or infinite voxels")
        counted = Counted(model)
        start = counted.sweep(ball.reference)
        check_logits(start.logits, target, model.head)
        self.check(model.head, start.logits.shape[1])
        return Search(counted, target, ball, torch.Generator().manual_seed(seed), start, progress, self.name)

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
        search = self.begin(model, volume, target, threat, threat.ball(volume), seed, progress)
        if threat.eps > 0:
            self.settle(search)
        done, total = search.done
        if 0 < done < total:  # nothing was left to lose
            search.report(total, total)
        return _judged(self.name, threat, search, began)


def _judged(name: str, threat: ThreatModel, search: Search, began: float) -> AttackResult:
    """The best point of a search, projected and judged once more from scratch."""
    final = search.ball.project(search.best)
    dice = judge(search.model, search.model.logits(final), search.target)
    return AttackResult(
        name, threat, final, dice, search.clean_dice, search.ball.distance(final), torch.stack(search.history, 1),
        search.model.gradients, search.model.forwards, time.perf_counter() - began,
    )  # fmt: skip


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
