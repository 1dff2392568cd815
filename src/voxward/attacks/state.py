"""The state of an attack on a batch: a model that counts its evaluations, and the best point found so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from voxward.attacks.criteria import judge
from voxward.attacks.masking import Slopes, usable
from voxward.attacks.random_models import TOLERANCE, Averaged, differ
from voxward.attacks.threat import Ball
from voxward.core.model import Box, Inputs, Objective, Scores, Swept, Truth, Values, VolumeModel, Wrapped
from voxward.core.progress import Progress

# Forward passes that every attack spends: the reference at the start, what `run` returned, and the best point found.
JUDGED = 3

CHANCE = 0.01
"""A Dice that differs by more when the same volume is judged again shows that the model answers at random."""


class Counted(Wrapped):
    """A model that counts how often it is evaluated.

    Attributes:
        inner: The model.
        gradients: Evaluations of the whole batch with a gradient.
        forwards: Evaluations of the whole batch without a gradient; a local update counts as a whole one.
    """

    def __init__(self, inner: VolumeModel) -> None:
        self.inner = inner
        self.gradients = 0
        self.forwards = 0

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Count an evaluation with a gradient; see `VolumeModel.value_and_grad`."""
        self.gradients += 1
        return self.inner.value_and_grad(volume, target, objective)

    def logits(self, volume: Inputs) -> Scores:
        """Count an evaluation without a gradient; see `VolumeModel.logits`."""
        self.forwards += 1
        return self.inner.logits(volume)

    def sweep(self, volume: Inputs) -> Swept:
        """Count an evaluation without a gradient; see `VolumeModel.sweep`."""
        self.forwards += 1
        return self.inner.sweep(volume)

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Count an evaluation without a gradient; see `VolumeModel.logits_after`."""
        self.forwards += 1
        return self.inner.logits_after(before, volume, box)


@dataclass(eq=False)
class AttackState:
    """One attack's work on a batch: the counted model, the goal, and the lowest Dice found so far.

    An attack evaluates volumes through `gradient`, `look`, or its own calls followed by `offer`. So the best legal
    point is kept whatever the attack does.

    What counts is the file. Where a file holds whole numbers only, an attack keeps a continuous point of its own, and
    what is evaluated is `held` of it, the nearest legal volume that the file can hold. The gradient there serves as the
    gradient at the attack's own point (the straight-through estimate), and no other volume is ever kept.

    Attributes:
        model: The attacked model.
        target: The ground truth.
        ball: The legal volumes.
        generator: The source of every random number.
        start: The reference, as a file holds it, with its logits.
        progress: What reports of progress go to.
        name: The attack's name, for these reports.
        best: The legal volume with the lowest Dice of each case (b, c, *spatial); at first the reference.
        best_dice: The Dice of `best` (b).
        best_figures: The lowest and the highest logit of `best`, and the mean of their sizes (b, 3).
        clean_dice: The Dice of the reference (b).
        history: The lowest Dice (b) after each evaluation of the model; the first entry is that of the reference.
        done: How many units of work are done, and how many there are in all.
        slopes: What the gradients looked like.
        averaged: Whether the mean of several answers of a random model is attacked.
        random: Whether the model answered the reference differently when it was asked again.
        noted: Points besides the best one that another model should be asked about, too, such as those of an earlier
            part of the attack.
        undefined: Evaluations in which the logits of a case held NaN or infinity, so that it was not judged.
        warnings: What makes the result doubtful, one sentence each.
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
    best_figures: Tensor = field(init=False)
    clean_dice: Tensor = field(init=False)
    history: list[Tensor] = field(init=False)
    done: tuple[int, int] = field(default=(0, 1), init=False)
    slopes: Slopes = field(default_factory=Slopes, init=False)
    averaged: bool = field(init=False)
    random: bool = field(default=False, init=False)
    noted: list[Tensor] = field(default_factory=list, init=False)
    undefined: int = field(default=0, init=False)
    warnings: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.averaged = isinstance(self.model.inner, Averaged)
        self.best = self.start.volume.clone()
        self.clean_dice = judge(self.model, self.start.logits, self.target)
        self.best_dice = self.clean_dice.clone()
        self.best_figures = _figures(self.start.logits)
        self.history = [self.best_dice.clone()]

    @property
    def finished(self) -> bool:
        """Return whether the Dice of every case is 0 already."""
        return bool((self.best_dice <= 0).all())

    def held(self, volume: Inputs) -> Inputs:
        """Return the nearest legal volume that the file can hold; a case outside the ball, which no file is, as it is.

        Args:
            volume: Intensities (b, c, *spatial).
        """
        if self.ball.grid is None:
            return volume
        inside = self.ball.holds(volume).view(-1, *(1,) * (volume.ndim - 1))
        return torch.where(inside, self.ball.stored(volume), volume)

    def gradient(self, volume: Inputs, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Evaluate a volume, as the file holds it, with a gradient, and note its Dice.

        Args:
            volume: Intensities (b, c, *spatial).
            objective: What to differentiate.

        Returns:
            The logits, the objective's value per case (b), and its gradient with respect to the volume.
        """
        volume = self.held(volume)
        logits, values, gradient = self.differentiate(volume, objective)
        self.offer(volume, logits)
        return logits, values, gradient

    def differentiate(self, volume: Inputs, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Evaluate a volume as it is with a gradient, and note what this looks like; the caller notes the Dice.

        Args:
            volume: Intensities (b, c, *spatial), as `held` returns them.
            objective: What to differentiate.

        Returns:
            The logits, the objective's value per case (b), and its gradient with respect to the volume, in which NaN is
            0 and no number is infinite.
        """
        logits, values, gradient = self.model.value_and_grad(volume, self.target, objective)
        if self.slopes.touched is None and torch.equal(volume, self.start.volume):
            self.random = not self.averaged and differ(logits, self.start.logits)
        self.slopes.note(values, gradient, self.best_dice > 0)
        return logits, values, usable(gradient)

    def look(self, volume: Inputs) -> Scores:
        """Evaluate a volume, as the file holds it, without a gradient, and note its Dice.

        Args:
            volume: Intensities (b, c, *spatial).

        Returns:
            The logits.
        """
        volume = self.held(volume)
        logits = self.model.logits(volume)
        self.offer(volume, logits)
        return logits

    def offer(self, volume: Inputs, logits: Scores) -> Values:
        """Note the Dice of a volume that was evaluated, and keep the cases with a lower Dice.

        Only legal cases that the file can hold are kept.

        Args:
            volume: Intensities (b, c, *spatial), as they were evaluated.
            logits: The logits of that volume.

        Returns:
            The Dice per case (b).
        """
        figures = _figures(logits)
        defined = torch.isfinite(figures[:, :2]).all(1)  # both are NaN where a logit is
        # A mask of NaN is no mask: the deployed model refuses such a volume.
        dice = torch.where(defined, judge(self.model, logits, self.target), self.clean_dice)
        lower = (dice < self.best_dice) & self.ball.holds(volume)
        # Both in one look: a GPU is waited for each time.
        undefined, lowered = torch.stack([~defined, lower]).tolist()
        self.undefined += sum(undefined)
        if any(lowered) and self.ball.grid is not None:
            lowered = (lower & self.ball.writable(volume)).tolist()
        self._keep(lowered, volume, dice, figures)
        self.history.append(self.best_dice.clone())
        return dice

    def keep(self, other: AttackState) -> None:
        """Take over what another attack on the same batch and in the same ball has found.

        Args:
            other: The state of the other attack.
        """
        self._keep_lower(other)
        self.history += [torch.minimum(earlier, self.history[-1]) for earlier in other.history[1:]]
        self.warnings += other.warnings

    def adopt(self, other: AttackState) -> None:
        """Take over the best point of another attack in a ball inside this one, which costs no evaluation.

        Args:
            other: The state of the other attack, on the same batch around the same reference.
        """
        self._keep_lower(other)
        self.history[-1] = self.best_dice.clone()

    def _keep_lower(self, other: AttackState) -> None:
        lowered = (other.best_dice < self.best_dice).tolist()
        self._keep(lowered, other.best, other.best_dice, other.best_figures)

    def _keep(self, lowered: Sequence[bool], volume: Inputs, dice: Values, figures: Tensor) -> None:
        """Keep some cases of a batch, one after the other: a mask of them would have to be looked at each time."""
        for case in (n for n, lower in enumerate(lowered) if lower):
            self.best[case] = volume[case]
            self.best_dice[case] = dice[case]
            self.best_figures[case] = figures[case].to(self.best_figures)

    def row(self, number: int) -> AttackState:
        """Return the same attack on one case of the batch, whose model counts for itself.

        Args:
            number: The case's place in the batch.
        """
        index = torch.tensor([number], device=self.target.device)
        return replace(
            self, model=Counted(self.model.inner), target=self.target[index], ball=self.ball.rows(index),
            start=row_of(self.start, number),
        )  # fmt: skip

    def gather(self, cases: Sequence[AttackState]) -> None:
        """Take over what was found on each case of the batch; an evaluation of the batch is one of every case.

        Args:
            cases: The states of all cases, in order.
        """
        length = max(len(case.history) for case in cases)
        rows = [torch.cat(case.history + case.history[-1:] * (length - len(case.history))) for case in cases]
        self.history += list(torch.stack(rows, 1)[1:])
        self.best = torch.cat([case.best for case in cases])
        self.best_dice = torch.cat([case.best_dice for case in cases])
        self.best_figures = torch.cat([case.best_figures for case in cases])
        self.undefined = sum(case.undefined for case in cases)
        self.model.forwards += max(case.model.forwards for case in cases)
        self.model.gradients += max(case.model.gradients for case in cases)
        self.slopes = Slopes.of([case.slopes for case in cases])

    def judge_again(self, logits: Scores, dice: Values) -> None:
        """Note whether the model answers at random, from a second answer to `best`.

        Args:
            logits: The second logits of `best` (b, k, *spatial).
            dice: Their Dice (b).
        """
        if self.averaged:
            return
        again, first = _figures(logits), self.best_figures.to(logits)
        moved = (again - first).abs().amax() > TOLERANCE * torch.maximum(again.abs().amax(), first.abs().amax())
        self.random |= bool(moved) or bool(((dice - self.best_dice).abs() > CHANCE).any())

    def report(self, done: int, total: int) -> None:
        """Report how far this attack is, and the mean over the cases of the lowest Dice so far.

        Args:
            done: How many units of work are done.
            total: How many there are in all.
        """
        self.done = done, total
        self.progress(self.name, done, total, dice=float(self.best_dice.mean()))


def row_of(swept: Swept, row: int) -> Swept:
    """Return one row of a batch; the memo is of the whole batch, so it is dropped.

    Args:
        swept: The batch.
        row: The place in it.
    """
    if len(swept.volume) == 1:
        return swept
    return Swept(swept.volume[row : row + 1], swept.logits[row : row + 1])


def _figures(logits: Tensor) -> Tensor:
    rows = logits.flatten(1)
    return torch.stack([*rows.aminmax(dim=1), rows.abs().mean(1)], 1)
