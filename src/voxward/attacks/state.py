"""The state of an attack on a batch: a model that counts its evaluations, and the best point found so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from voxward.attacks.criteria import judge
from voxward.attacks.threat import Ball
from voxward.core.model import Box, Inputs, Objective, Scores, Swept, Truth, Values, VolumeModel, Wrapped
from voxward.core.progress import Progress

# Forward passes that every attack spends: the reference at the start, what `run` returned, and the best point found.
JUDGED = 3


class Counted(Wrapped):
    """A VolumeModel that counts what it is asked for."""

    def __init__(self, inner: VolumeModel) -> None:
        self.inner = inner
        self.gradients = 0
        self.forwards = 0

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """X."""
        self.gradients += 1
        return self.inner.value_and_grad(volume, target, objective)

    def logits(self, volume: Inputs) -> Scores:
        """X."""
        self.forwards += 1
        return self.inner.logits(volume)

    def sweep(self, volume: Inputs) -> Swept:
        """X."""
        self.forwards += 1
        return self.inner.sweep(volume)

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """X."""
        self.forwards += 1
        return self.inner.logits_after(before, volume, box)


@dataclass(eq=False)
class AttackState:
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

    def keep(self, other: AttackState) -> None:
        """Take over what another search on the same batch and ball has found."""
        lower = other.best_dice < self.best_dice
        self.best[lower] = other.best[lower]
        self.best_dice[lower] = other.best_dice[lower]
        self.history += [torch.minimum(earlier, self.history[-1]) for earlier in other.history[1:]]

    def report(self, done: int, total: int) -> None:
        """Show how far this attack is, and the lowest mean Dice so far."""
        self.done = done, total
        self.progress(self.name, done, total, dice=float(self.best_dice.mean()))
