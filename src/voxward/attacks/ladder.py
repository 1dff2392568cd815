"""Ladders over eps: searches that climb from ball to ball and come down again, each from what the last one found.

A segmentation that is half lost is hard to lose wholly: the search in a ball of middle size ends in a basin from which
no step leads on. Seen from a larger ball, in which nothing is left, the better basin is easy to reach. So a ladder goes
up with few steps in each ball (as BLADE does), beyond the largest ball, and down again: the perturbation is shrunk to
the next smaller ball and improved there. Warm starts from smaller balls are those of BLADE; that larger balls help the
smaller ones is the idea of the radius schedule of SEA (arXiv 2306.12941), here with the Dice of the mask as judge.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from voxward.attacks import rounding
from voxward.attacks.apgd import APGD, Ascent, ascend, checkpoints
from voxward.attacks.base import learnt
from voxward.attacks.budget import Budget
from voxward.attacks.curve import CurveAttack, Rungs
from voxward.attacks.objectives import OBJECTIVES, Loss, at, check_objective, create_objective
from voxward.attacks.state import JUDGED, AttackState
from voxward.core.errors import UserError
from voxward.core.model import Head, Inputs
from voxward.core.progress import Progress

LOST = 0.5
"""Below this share of its clean Dice a case is mostly lost, and another objective is used."""
HOLDS = 0.8
"""Above this share of its clean Dice a case has withstood the way up; see `Tour.wide`."""
ROUNDS = 6
"""Rounds in which single voxels of a file of whole numbers move, after everything else."""


@dataclass(frozen=True)
class Tour:
    """One way up a ladder, beyond its largest ball, and down again.

    Attributes:
        up: Gradient steps in each ball on the way up; 0: the way up is left out.
        over: Gradient steps in a ball larger than all others.
        down: Gradient steps in each ball on the way down.
        near: The objective while a case has more than half of its clean Dice left.
        far: The objective afterwards. That of a cross-entropy or of a softened Dice does not vanish where the mask is
            sure and wrong, or sure and right.
        reach: How many times as large as the largest ball the ball beyond it is.
        wide: The same for a case that has lost a fifth of its clean Dice in the largest ball already; in the ball
            beyond it is attacked with `far`. None: no case is treated differently.
        alone: Whether it starts at the reference and knows nothing of the tours before it. Two tours that start from
            one point end in one basin.
    """

    up: int
    over: int
    down: int
    near: str = "dice"
    far: str = "dice-sharp"
    reach: float = 1.25
    wide: float | None = None
    alone: bool = False


@dataclass(frozen=True)
class Ladder(CurveAttack):
    """Tours over a ladder of balls, and short last searches in each ball around the best point of all tours.

    Every evaluated point counts with the Dice of its mask, whatever the objective says. A ball in which nothing is left
    is searched no further.

    Attributes:
        steps: Gradient steps of a leg, that is of one search in one ball.
    """

    norms = ("linf", "l2")
    steps: int = 20

    @abstractmethod
    def tours(self, sizes: int) -> Sequence[Tour]:
        """Return the tours.

        Args:
            sizes: The number of balls.
        """

    def last_steps(self) -> int:
        """Return the gradient steps of the last search in each ball."""
        return 0

    def price(self, sizes: int) -> tuple[int, int]:
        """Return the greatest numbers of gradients and of forward passes; see `CurveAttack.price`."""
        legs = sum(tour.up * sizes + tour.over + tour.down * sizes for tour in self.tours(sizes))
        return legs + sizes * (self.last_steps() + (ROUNDS + 1 if self.last_steps() else 0)), JUDGED + sizes

    def check(self, head: Head, classes: int) -> None:
        """Check that the objectives work on a model; see `Attack.check`."""
        for tour in self.tours(1):
            for name in (tour.near, tour.far):
                check_objective(create_objective(name), head, classes)

    def doubts(self, state: AttackState) -> Iterator[str]:
        """Yield what makes it doubtful that the attack learnt from its gradients; see `Attack.doubts`."""
        yield from learnt(self.name, state, climbs=False, saturates=True)

    def search(self, rungs: Rungs) -> None:
        """Make the tours, then the last searches; see `CurveAttack.search`."""
        walk = Walk(rungs, self.price(len(rungs))[0])
        for tour in self.tours(len(rungs)):
            walk.tour(tour)
        walk.last(self.last_steps())


@dataclass(frozen=True)
class Strong(Ladder):
    """The strongest set of searches for segmentation, for less than a sixth of the gradients of SEA at five sizes.

    Attributes:
        steps: Gradient steps of a leg, that is of one search in one ball.

    Raises:
        UserError: `steps` is below 2.
    """

    name = "strong"
    summary = "Strong: one search for all eps together, three times up to the largest and back; the thorough attack"

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise UserError(f"steps must be at least 2, got {self.steps}")

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """Return the steps of a budget."""
        return {"steps": budget.steps}

    def tours(self, sizes: int) -> Sequence[Tour]:
        """Return the tours; see `Ladder.tours`.

        The second one is on its own, for another basin. Softened logits find what soft Dice misses where a network is
        so sure of itself that soft Dice has no gradient. The last tour goes on from the best of both.
        """
        n = self.steps
        other = Tour(n // 4, n * 3 // 2, n * 3 // 4, near="dice-sharp", wide=2.0, alone=True)
        return Tour(n, n, n), other, Tour(n // 2, n, n, near="dice-sharp")

    def last_steps(self) -> int:
        """Return the gradient steps of the last search; see `Ladder.last_steps`."""
        return self.steps


@dataclass(frozen=True)
class Fast(Ladder):
    """The best that 20 gradients for each size buy, chosen by measurement: one tour over a ladder of all eps.

    On the way up each ball gets a quarter of its gradients. A case that withstands that is attacked in a ball a quarter
    larger, any other in one twice as large, from which the way down finds basins that no small ball leads to. The way
    down ends where the gradients are spent: of five balls in the third, or further down where a case was lost early.
    In small balls the way up is enough.

    Attributes:
        steps: Gradients for each size.
    """

    name = "fast"
    summary = "Fast: one search for all eps together, once up to the largest and back, 20 gradients for each eps"

    def tours(self, sizes: int) -> Sequence[Tour]:
        """Return the one tour; see `Ladder.tours`."""
        total, up = self.steps * sizes, self.steps // 4
        over, legs = total * 3 // 11, sizes - sizes * 2 // 5
        return (Tour(up, over, (total - up * sizes - over) // legs, wide=2.0),)

    def price(self, sizes: int) -> tuple[int, int]:
        """Return 20 gradients for each size, and the forward passes; see `CurveAttack.price`."""
        return self.steps * sizes, JUDGED + sizes


@dataclass(eq=False)
class Walk:
    """A search on a ladder of balls.

    Attributes:
        rungs: The states of the balls, eps ascending.
        total: How many gradients the whole search takes at most; the way down ends where they are spent.
    """

    rungs: Rungs
    total: int

    @property
    def spent(self) -> int:
        """The gradients so far."""
        return sum(rung.model.gradients for rung in self.rungs)

    def tour(self, tour: Tour) -> None:
        """Make one tour.

        Args:
            tour: Its objectives and steps.
        """
        if tour.alone:
            self._beside(tour)
            return
        self._up(self.rungs, tour)
        self._down(self.rungs, tour)

    def _beside(self, tour: Tour) -> None:
        """Make a tour in states of its own, and take over what it found."""
        if all(rung.finished for rung in self.rungs):
            return
        rungs = [replace(rung, progress=_no_higher(rung)) for rung in self.rungs]
        self._up(rungs, tour)
        self._down(rungs, tour)
        for rung, other in zip(self.rungs, rungs, strict=True):
            rung.keep(other)
            rung.undefined += other.undefined

    def _up(self, rungs: Rungs, tour: Tour) -> None:
        """From ball to ball, each from what the last one found."""
        for n, rung in enumerate(rungs if tour.up else ()):
            start = rung.ball.reference
            if n:
                rung.adopt(rungs[n - 1])
                start = carried(rungs[n - 1], rung)
            # Near a good point the first step is a shorter one.
            self._leg(rung, tour, tour.up, start, 1.0 if n else 2.0)

    def _down(self, rungs: Rungs, tour: Tour) -> None:
        """Beyond the largest ball, and down from there."""
        last = rungs[-1]
        wide = tour.wide if bool((last.best_dice <= HOLDS * last.clean_dice).all()) else None
        above = replace(last, ball=last.ball.scaled(wide or tour.reach))
        above.adopt(last)
        if not last.finished:
            self._leg(above, tour, tour.over, carried(last, above), 1.0, tour.far if wide else None)
        for rung in reversed(rungs):
            steps = min(tour.down, self.total - self.spent)
            if steps > 0 and not rung.finished:
                self._leg(rung, tour, steps, carried(above, rung), 1.0)
            above = rung
        for below, rung in pairwise(rungs):
            rung.adopt(below)

    def last(self, steps: int) -> None:
        """Search around the best point of each ball, with steps that fall to 0, and in the end by single voxels.

        Args:
            steps: The gradient steps of each ball.
        """
        loss = create_objective("dice")
        for n, rung in enumerate(self.rungs):
            if n:
                rung.adopt(self.rungs[n - 1])
            descend(rung, loss, steps)
            if steps:
                rounding.polish(rung, at(loss, 1.0), ROUNDS)
            rung.report(self.spent, self.total)

    def _leg(
        self, state: AttackState, tour: Tour, steps: int, start: Inputs, first: float, objective: str | None = None
    ) -> None:
        """One search in one ball."""
        lost = bool((state.best_dice <= LOST * state.clean_dice).all())
        climb(state, objective or (tour.far if lost else tour.near), steps, start, first)
        state.report(self.spent, self.total)


def _no_higher(state: AttackState) -> Progress:
    """Reports of a search beside another one, with the lowest Dice of both."""

    def told(stage: str, done: int, total: int | None, /, **figures: float | str) -> None:
        lowest = min(float(figures["dice"]), float(state.best_dice.mean()))
        state.progress(stage, done, total, **{**figures, "dice": lowest})

    return told


def carried(source: AttackState, state: AttackState) -> Inputs:
    """Return the best perturbation of one ball, stretched or shrunk to the size of another one.

    Args:
        source: The state of the ball that it comes from.
        state: The state of the ball that it goes to.
    """
    reference = state.ball.reference
    factor = state.ball.radius / source.ball.radius
    return state.ball.project(reference + (source.best - reference) * factor)


def climb(state: AttackState, objective: str, steps: int, start: Inputs, first: float) -> Ascent:
    """Search in one ball with the moves of Auto-PGD, until nothing is left.

    Args:
        state: The state of the ball.
        objective: What is maximised, a name in `OBJECTIVES`.
        steps: Gradient steps.
        start: The first point, a legal volume.
        first: The first step size in eps.

    Returns:
        The ascent, with its point of highest objective.
    """
    ascent = Ascent(state.ball, start, APGD.momentum, APGD.rho, first)
    moments, steady = [step / steps for step in range(steps)], OBJECTIVES[objective].steady
    loss, marks = create_objective(objective), checkpoints(max(steps, 1))
    for _ in ascend(state, ascent, loss, moments=moments, marks=marks, steady=steady):
        pass
    return ascent


def descend(state: AttackState, loss: Loss, steps: int, first: float = 0.25) -> None:
    """Search from the best point of a ball with steps that fall to 0 along a half cosine.

    Args:
        state: The state of the ball.
        loss: What is maximised.
        steps: Gradient steps.
        first: The first step size in eps.
    """
    x = state.best.clone()
    for step in range(steps):
        if state.finished:
            return
        gradient = state.gradient(x, at(loss, step / steps))[2]
        size = first * (1 + math.cos(math.pi * step / steps)) / 2
        x = state.ball.project(x + size * state.ball.step(gradient))
