"""What all attacks share: checks of the input, re-projection of what an attack returns, and the final judgement."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from voxward.attacks import masking
from voxward.attacks.budget import BUDGETED, Budget
from voxward.attacks.criteria import judge
from voxward.attacks.state import AttackState, Counted
from voxward.attacks.threat import Ball, ThreatModel
from voxward.core.errors import UserError
from voxward.core.model import Head, Inputs, Scores, Truth, Values, VolumeModel, annotated_part
from voxward.core.progress import Progress, silent
from voxward.core.structure import to_data

NOT_WRITABLE = (
    "eps is smaller than the distance between two intensities that the file can hold, so that no file with a "
    "perturbation of this size exists: nothing was attacked"
)


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack found, per case of the batch.

    Attributes:
        attack: The attack's name.
        threat: The threat model.
        adversarial: The adversarial volumes (b, c, *spatial), inside the ball of `threat` and, where it says what a
            file can hold, as a file holds them.
        dice: The mean foreground Dice (b) of the final mask of `adversarial`, judged once more at the end.
        clean_dice: The same of the reference.
        distance: The norm of the perturbation (b), in the unit of eps.
        history: The lowest Dice after each evaluation of the model's logits, one row per case. The first column is the
            reference or, in a search of several sizes, what was taken over from a smaller one.
        gradients: Evaluations of the whole batch with a gradient.
        forwards: Evaluations of the whole batch without a gradient; a local update counts as a whole one.
        seconds: Wall-clock time.
        warnings: What makes it doubtful that the attack shows how robust the model is, one sentence each, such as a
            gradient that was 0 in every step.
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
    warnings: tuple[str, ...] = ()


class Attack(ABC):
    """The base class of attacks.

    A subclass is a frozen dataclass of its options, and optimises in `run`. What `run` returns is never trusted: it is
    projected into the ball, made a volume that the file can hold, and judged again. The result is the volume with the
    lowest Dice among it, the best point noted on the way, and the reference.

    Attributes:
        name: The attack's name in the registry, such as `apgd-dice`.
        summary: What the attack does, in one line without its objective.
        norms: The norms of threat models that it can obey.
        needs_gradient: Whether it needs gradients, so that it cannot attack a model without them.
        noted: How many points it adds to `AttackState.noted`.
    """

    name: str
    summary: ClassVar[str]
    norms: tuple[str, ...] = ("linf",)
    needs_gradient: bool = True
    noted: ClassVar[int] = 0

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """Return the options that spend a budget; most attacks take its `steps` and `restarts`.

        Args:
            budget: What the attack may spend.

        Returns:
            Options by name, as `create` takes them.
        """
        return {"steps": budget.steps, "restarts": budget.restarts}

    @abstractmethod
    def run(self, state: AttackState) -> Inputs:
        """Optimise, and return adversarial volumes.

        Args:
            state: The model, the goal and the best point so far.

        Returns:
            Volumes (b, c, *spatial), usually `state.best`.
        """

    def check(self, head: Head, classes: int) -> None:  # noqa: B027 (most attacks work on every model)
        """Check that this attack works on a model; most attacks work on every model.

        Args:
            head: How the model's logits are read.
            classes: Its number of classes or regions.

        Raises:
            UserError: The attack cannot work on such a model.
        """

    def doubts(self, state: AttackState) -> Iterator[str]:
        """Yield what makes it doubtful that the attack learnt from the model's gradients, one sentence each.

        Args:
            state: The attack's state after `run`.
        """
        yield from learnt(self.name, state, climbs=False, saturates=False)

    @abstractmethod
    def cost(self, classes: int) -> tuple[int, int]:
        """Return the greatest numbers of gradients and of forward passes that the attack may spend.

        Args:
            classes: The model's number of classes; for regions, their number plus one.
        """

    def doubled(self) -> Attack:
        """Return the attack with twice its budget, which tells whether it had come to rest.

        Its options `steps`, `queries` and `fab_steps` count twice, and those of an option `budget`. Restarts do not: a
        search that has not come to rest needs longer ones, not more of them.

        Raises:
            TypeError: It has no such option, so its class must say itself what twice its budget is.
        """
        return twice(self)

    def options(self) -> dict[str, Any]:
        """Return the attack's options as plain data, for records."""
        return dict(to_data(self))

    def settle(self, state: AttackState) -> None:
        """Run the attack, and evaluate what it returned once it is projected into the ball.

        Args:
            state: The attack's state, in which the best point is noted.
        """
        if state.finished:
            return
        returned = self.run(state).detach()
        state.warnings += self.doubts(state)
        # Compared before it is projected: a second projection may change an ulp, which is not worth a forward pass.
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
        """Check all input and evaluate the reference.

        Args:
            model: The attacked model.
            volume: Intensities (b, c, *spatial).
            target: The ground truth.
            threat: The threat model.
            ball: The legal volumes around the reference.
            seed: The seed of every random number.
            progress: What reports of progress go to.

        Returns:
            The state in which the attack begins.

        Raises:
            UserError: As for a call of the attack.
        """
        if threat.norm not in self.norms:
            raise UserError(f"{self.name} knows the norms {', '.join(self.norms)}, got {threat.norm!r}")
        if not bool(torch.isfinite(volume).all()):
            raise UserError("the volume holds NaN or infinite voxels, and all intensities must be finite")
        counted = Counted(model)
        start = counted.sweep(ball.stored(ball.reference))
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
        *,
        warn: bool = True,
    ) -> AttackResult:
        """Attack a batch of cases, each of them on its own.

        Args:
            model: The attacked model, such as a `PatchModel` or a `PipelineModel`.
            volume: Intensities (b, c, *spatial), finite, in the unit of the threat model's bounds.
            target: The ground truth: class indices (b, *spatial), or 0 and 1 per region (b, k, *spatial), with -1 where
                a voxel is not annotated.
            threat: What the attack may do.
            seed: The seed of every random number.
            progress: What reports of progress go to.
            warn: Whether the result's warnings are given as Python warnings, too.

        Returns:
            The adversarial volumes with their Dice, what they cost, and what makes them doubtful.

        Raises:
            UserError: The attack does not know the threat model's norm, the threat model has no bounds, the ground
                truth does not fit the model, the volume is not finite, or the model returns probabilities instead of
                logits.

        Warns:
            UserWarning: The attack may have learnt nothing (see `AttackResult.warnings`).
        """
        began = time.perf_counter()
        state = self.begin(model, volume, target, threat, threat.ball(volume), seed, progress)
        if threat.eps > 0 and state.ball.grid is not None and not state.ball.movable:
            state.warnings.append(f"{self.name}: {NOT_WRITABLE}")
        elif threat.eps > 0:
            self.settle(state)
        done, total = state.done
        if 0 < done < total:  # the attack stopped early, because no Dice was left
            state.report(total, total)
        result = judged(self.name, threat, state, began)
        if warn:
            give(result.warnings, stacklevel=3)
        return result


def twice(attack: Attack) -> Attack:
    """Return an attack whose options that are a budget count twice; see `Attack.doubled`.

    Raises:
        TypeError: It has none.
    """
    assert is_dataclass(attack)
    values = {field.name: getattr(attack, field.name) for field in fields(attack) if field.init}
    spent: dict[str, Any] = {name: 2 * values[name] for name in BUDGETED if name in values}
    if isinstance(budget := values.get("budget"), Budget):
        spent["budget"] = budget.doubled()
    if not spent:
        raise TypeError(f"{type(attack).__name__} has none of the options {', '.join(BUDGETED)}")
    return replace(attack, **spent)


def judged(name: str, threat: ThreatModel, state: AttackState, began: float) -> AttackResult:
    """Project the best point of an attack and judge it once more, from scratch.

    Args:
        name: The attack's name.
        threat: The threat model.
        state: The attack's state at the end.
        began: When it began, by `time.perf_counter`.
    """
    # Projected, a point may differ by an ulp from what the file holds.
    final = state.ball.stored(state.ball.project(state.best))
    logits = state.model.logits(final)
    dice = judge(state.model, logits, state.target)
    state.judge_again(logits, dice)
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
        warnings=remarks(name, state),
    )


def learnt(name: str, state: AttackState, climbs: bool, saturates: bool) -> Iterator[str]:
    """Yield what makes it doubtful that an attack learnt from the model's gradients; see `masking`.

    Args:
        name: The attack's name.
        state: The attack's state after `run`.
        climbs: Whether it climbs one objective that stays the same in all steps.
        saturates: Whether the gradient of its objective vanishes where the model is sure.
    """
    fell = state.best_dice < state.clean_dice
    yield from masking.doubts(name, state.slopes, state.target, fell, climbs)
    if saturates:
        yield from masking.saturated(name, state.start.logits, state.target, state.model.head)
    if state.undefined:
        yield (
            f"{name}: the model returned NaN or infinite logits {state.undefined} times, and these volumes were not "
            "counted"
        )


def remarks(name: str, state: AttackState) -> tuple[str, ...]:
    """Return all that makes an attack's result doubtful.

    Args:
        name: The attack's name.
        state: Its state at the end.
    """
    random = (
        f"{name}: the model answers at random, so that one gradient is noise and the Dice is drawn by chance: attack "
        "the mean of several answers, as the ensembles do"
    )
    return (*dict.fromkeys(state.warnings), *([random] if state.random else []))


def give(sentences: tuple[str, ...], stacklevel: int) -> None:
    """Give sentences as Python warnings.

    Args:
        sentences: The sentences.
        stacklevel: Whose line the warning names, as for `warnings.warn`.
    """
    for sentence in sentences:
        warnings.warn(sentence, stacklevel=stacklevel)


def check_logits(logits: Scores, target: Truth, head: Head) -> None:
    """Check that a model's logits fit the ground truth and are logits.

    Args:
        logits: The model's output (b, k, *spatial).
        target: The ground truth.
        head: How the logits are read.

    Raises:
        UserError: The ground truth has another shape, illegal values or a case without any annotated voxel, or the
            logits are not finite or look like
            probabilities.
    """
    expected = logits.shape if head == "regions" else (logits.shape[0], *logits.shape[2:])
    if tuple(target.shape) != tuple(expected):
        raise UserError(
            f"the ground truth must have shape {tuple(expected)} for a {head} head, got {tuple(target.shape)}"
        )
    most = 1 if head == "regions" else logits.shape[1] - 1
    truth, known = annotated_part(target)
    if truth.numel() and not 0 <= int(truth.min()) <= int(truth.max()) <= most:
        raise UserError(f"the ground truth must hold 0 to {most}, got {int(truth.min())} to {int(truth.max())}")
    if known is not None and not bool(known.flatten(1).any(1).all()):
        raise UserError("no voxel of the ground truth is annotated: there is nothing to attack")
    if not bool(torch.isfinite(logits).all()):
        raise UserError("the model returns NaN or infinite logits")
    if looks_like_probabilities(logits, head):
        raise UserError("the model returns probabilities, not logits: attack the network without its last activation")


def looks_like_probabilities(logits: Scores, head: Head) -> bool:
    """Return whether a model's output looks like probabilities.

    All values lie in 0..1 and, for a softmax head, sum to 1 in every voxel. A region's logits are negative wherever the
    region is not, so an output without negative values means that a sigmoid was applied.

    Args:
        logits: The model's output (b, k, *spatial).
        head: How the logits are read.
    """
    low, high = logits.aminmax()
    if low < 0 or high > 1:
        return False
    if head == "regions":
        return True
    return bool(torch.allclose(logits.sum(1), torch.ones_like(logits[:, 0]), atol=1e-3))
