"""Auto-PGD (Croce and Hein 2020, arXiv 2003.01690, Algorithm 1), with the radius schedule of SEA (arXiv 2306.12941)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from voxward.attacks.base import Attack, learnt
from voxward.attacks.budget import Budget
from voxward.attacks.objectives import OBJECTIVES, Loss, Weights, at, check_objective, create_objective
from voxward.attacks.state import JUDGED, AttackState
from voxward.attacks.threat import Ball
from voxward.core.errors import UserError
from voxward.core.model import Head, Inputs, Scores, Values

Schedule = Literal["paper", "released"]
Start = Literal["reference", "random"]


@dataclass(frozen=True)
class APGD(Attack):
    """Gradient ascent with momentum whose step is halved, per case, when it stalls.

    The first move has a step of 2 eps and no momentum. Every other move mixes the new step, with weight `momentum`, and
    the last move, with the rest. At a checkpoint of the schedule the step of a case is halved, and the case goes back
    to its point of highest objective, if fewer than `rho` of the moves since the last checkpoint raised the objective
    (condition 1), or if neither the step nor the highest objective changed since then (condition 2). The point with the
    lowest Dice seen is returned.

    The first restart begins at the reference, which is deterministic and loses no step on finding back to it, or, as
    published, at a random point of the ball. The others begin at a random point. Where the objective changes from step
    to step, the values of the last and of the best point are computed again from their logits, so that a step counts as
    rising only if the present objective rises. The cost per restart is one gradient per step and one forward pass, and
    one more forward pass per radius beyond two.

    Attributes:
        objective: A name in `OBJECTIVES`.
        steps: Gradient steps per restart, at least 1 and at least one per radius.
        restarts: At least 1.
        rho: Share of rising moves below which a step is halved, above 0 and at most 1.
        momentum: Weight of the new step, above 0 and at most 1.
        schedule: When the step may be halved, `paper` or `released` (see `checkpoints`).
        radii: Factors of eps that fall to 1, such as (2, 1.5, 1). Each has its own slot of the steps and its own ascent
            in that ball, which begins at the last slot's point of highest objective, projected. The last slot is a
            third longer than the others (30, 30 and 40 %). Points outside the ball of eps are never returned: each
            slot's point of highest objective is also judged after projection into it. Empty: one slot.
        class_weights: Weights of the classes or regions in the objective; None: 1 each.
        start: Where the first restart begins: at the `reference`, or at a `random` point of the (widest) ball.

    Raises:
        UserError: A value is illegal, or the objective is unknown.

    Warns:
        UserWarning: There are fewer than 10 steps, so every step is a checkpoint.
    """

    norms = ("linf", "l2")
    summary = "Auto-PGD: gradient steps that are halved when they stall"

    objective: str = "ce"
    steps: int = 20
    restarts: int = 1
    rho: float = 0.75
    momentum: float = 0.75
    schedule: Schedule = "paper"
    radii: tuple[float, ...] = ()
    class_weights: Weights = None
    start: Start = "reference"

    def __post_init__(self) -> None:
        if self.restarts < 1 or self.steps < max(1, len(self.radii)):
            raise UserError(
                f"steps must be at least 1 and at least one per radius ({len(self.radii)}), and restarts at least 1, "
                f"got steps {self.steps} and restarts {self.restarts}"
            )
        for name in ("rho", "momentum"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
        if self.radii and (self.radii[-1] != 1 or list(self.radii) != sorted(self.radii, reverse=True)):
            raise UserError(f"radii must fall to 1, such as (2.0, 1.5, 1.0), got {self.radii}")
        if self.start not in get_args(Start):
            raise UserError(f"start must be one of {', '.join(get_args(Start))}, got {self.start!r}")
        create_objective(self.objective, self.class_weights)
        if self.steps < 10:
            warnings.warn(f"APGD with {self.steps} steps is weak: its step rule needs at least 10", stacklevel=3)

    @property
    def name(self) -> str:  # type: ignore[override]  # composed, and nobody sets it
        """Return the family with the objective, such as `apgd-dice` or `apgd-dice-radii`."""
        return f"apgd-{self.objective}" + ("-radii" if self.radii else "")

    def check(self, head: Head, classes: int) -> None:
        """Check that the objective works on a model; see `Attack.check`."""
        check_objective(create_objective(self.objective, self.class_weights), head, classes)

    def doubts(self, state: AttackState) -> Iterator[str]:
        """Yield what makes it doubtful that the attack learnt from its gradients; see `Attack.doubts`."""
        entry = OBJECTIVES[self.objective]
        yield from learnt(self.name, state, entry.steady, entry.saturates)

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the greatest numbers of gradients and of forward passes; see `Attack.cost`."""
        return self.restarts * self.steps, self.restarts * max(1, len(self.radii) - 1) + JUDGED

    def run(self, state: AttackState) -> Inputs:
        """Climb from each restart's first point, and return the best point seen; see `Attack.run`."""
        loss = create_objective(self.objective, self.class_weights)
        for restart in range(self.restarts):
            self._restart(state, loss, restart)
        return state.best

    def _restart(self, state: AttackState, loss: Loss, restart: int) -> None:
        radii = self.radii or (1.0,)
        balls = [state.ball.scaled(factor) if factor != 1 else state.ball for factor in radii]
        drawn = restart > 0 or self.start == "random"
        x = balls[0].random(state.generator) if drawn else state.ball.reference
        ends = slots(self.steps, len(radii))
        for n, (ball, (begin, end)) in enumerate(zip(balls, pairwise((0, *ends)), strict=True)):
            ascent = self.climb(state, ball, x, loss, (restart, begin, end))
            if state.finished:
                return
            if n + 1 == len(balls):
                state.look(ascent.x)
                return
            x = balls[n + 1].project(ascent.best)
            if radii[n + 1] > 1:  # otherwise the next slot begins at this point
                state.look(state.ball.project(ascent.best))

    def climb(self, state: AttackState, ball: Ball, x: Inputs, loss: Loss, span: tuple[int, int, int]) -> Ascent:
        """Climb from a point for one slot of the steps.

        Args:
            state: The attack's state.
            ball: The volumes that are legal in this slot.
            x: The first point (b, c, *spatial).
            loss: The objective.
            span: The restart, and the steps at which the slot begins and ends.

        Returns:
            The ascent, whose `x` is a point that is not evaluated yet.
        """
        restart, begin, end = span
        ascent, marks = Ascent(ball, x, self.momentum, self.rho), checkpoints(end - begin, self.schedule)
        moments = [step / self.steps for step in range(begin, end)]
        steady = OBJECTIVES[self.objective].steady
        for done in ascend(state, ascent, loss, moments=moments, marks=marks, steady=steady):
            state.report(restart * self.steps + begin + done, self.restarts * self.steps)
        return ascent


@dataclass(frozen=True)
class TsallisPGD(APGD):
    """APGD from a random start on the Tsallis cross-entropy, whose q grows from -2 to 1 (arXiv 2605.03405).

    Attributes:
        objective: Always `tsallis`.
        steps: Gradient steps, 300 in the paper; they do not follow a protocol's budget.
        restarts: Always 1.
        start: Always `random`; the other options are those of APGD.
    """

    summary = "Tsallis-PGD as published: Auto-PGD of 300 steps from a random start"

    objective: str = field(default="tsallis", init=False)
    steps: int = 300
    restarts: int = field(default=1, init=False)
    start: Start = field(default="random", init=False)

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """Return no options, because the number of steps is a part of the name."""
        return {}

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return the name with the number of steps, such as `tsallis-300`."""
        return f"tsallis-{self.steps}"


@dataclass(eq=False)
class Ascent:
    """The state of Algorithm 1, with one row per case, so that no case waits for another.

    A checkpoint w is decided as soon as the objective at x(w) is known, from x(0)..x(w), as in the authors' code.
    Algorithm 1 read to the letter computes x(w + 1) first and discards it.

    Attributes:
        ball: The legal volumes.
        x: The current point (b, c, *spatial).
        momentum: Weight of the new step.
        rho: Share of rising moves below which a step is halved.
        first: The first step size in eps; 2 in Algorithm 1, less where the search begins near a good point.
        previous: The point before `x`; None at the start.
        best: The point of highest objective.
        best_gradient: The gradient there.
        best_value: The objective there (b).
        gradient: The gradient at `x`.
        value: The objective at `x` (b).
        step: The step size in eps (b).
        rises: How many moves raised the objective since the last checkpoint (b).
        moves: How many moves there were since then.
        rose: Whether the highest objective rose since the last checkpoint (b).
        halved: Whether the last checkpoint halved the step (b).
        logits: The logits of the point that `value` belongs to, where the objective changes from step to step.
        best_logits: Those of `best`.
    """

    ball: Ball
    x: Tensor
    momentum: float
    rho: float
    first: float = 2.0
    previous: Tensor | None = None
    best: Tensor = field(init=False)
    best_gradient: Tensor = field(init=False)
    best_value: Values = field(init=False)
    gradient: Tensor = field(init=False)
    value: Values = field(init=False)
    step: Values = field(init=False)
    rises: Values = field(init=False)
    moves: int = field(default=0, init=False)
    rose: Tensor = field(init=False)
    halved: Tensor = field(init=False)
    logits: Tensor | None = field(default=None, init=False)
    best_logits: Tensor | None = field(default=None, init=False)

    def judge_again(self, objective: Callable[[Scores], Values]) -> None:
        """Compute the objective of the last point and of the best one once more, because it has changed.

        Args:
            objective: The present objective, of logits; those of both points were given to `note`.
        """
        if self.logits is not None and self.best_logits is not None:
            self.value, self.best_value = objective(self.logits), objective(self.best_logits)

    def note(self, value: Values, gradient: Tensor, logits: Scores | None = None) -> None:
        """Take in the objective and its gradient at the current point.

        Args:
            value: The objective per case (b).
            gradient: Its gradient (b, c, *spatial).
            logits: The logits of the point, for `judge_again`; None where the objective stays the same.
        """
        if self.previous is None:
            self._begin(value, gradient)
            self.logits = self.best_logits = logits
            return
        self.rises = self.rises + (value > self.value).to(value)
        self.moves += 1
        self.value, self.gradient = value, gradient
        higher = value > self.best_value
        self.rose = self.rose | higher
        self.best_value = torch.where(higher, value, self.best_value)
        wide = self._wide(higher)
        self.best = torch.where(wide, self.x, self.best)
        self.best_gradient = torch.where(wide, gradient, self.best_gradient)
        if logits is not None and self.best_logits is not None:
            self.logits, self.best_logits = logits, torch.where(wide, logits, self.best_logits)

    def decide(self) -> None:
        """Halve the steps of the cases that stall, and take these cases back to their best point."""
        stalled = ~self.rose & ~self.halved
        self.halved = (self.rises < self.rho * self.moves) | stalled
        self.step = torch.where(self.halved, self.step / 2, self.step)
        self.value = torch.where(self.halved, self.best_value, self.value)
        wide = self._wide(self.halved)
        self.x = torch.where(wide, self.best, self.x)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)
        if self.logits is not None and self.best_logits is not None:
            self.logits = torch.where(wide, self.best_logits, self.logits)
        self.rises, self.moves, self.rose = torch.zeros_like(self.rises), 0, torch.zeros_like(self.rose)

    def move(self) -> None:
        """Go from x(k) and x(k - 1) to x(k + 1)."""
        ahead = self.ball.project(self.x + self._wide(self.step) * self.ball.step(self.gradient))
        if self.previous is not None:
            a = self.momentum
            ahead = self.ball.project(self.x + a * (ahead - self.x) + (1 - a) * (self.x - self.previous))
        self.previous, self.x = self.x, ahead

    def _begin(self, value: Values, gradient: Tensor) -> None:
        self.best, self.best_value, self.best_gradient = self.x, value, gradient
        self.value, self.gradient = value, gradient
        self.step = torch.full_like(value, self.first, dtype=self.x.dtype)
        self.rises = torch.zeros_like(value)
        self.rose = self.halved = torch.zeros_like(value, dtype=torch.bool)

    def _wide(self, rows: Tensor) -> Tensor:
        return rows.view(-1, *(1,) * (self.x.ndim - 1))


def ascend(
    state: AttackState, ascent: Ascent, loss: Loss, *, moments: Sequence[float], marks: Container[int], steady: bool
) -> Iterator[int]:
    """Make the moves of an ascent until nothing is left, and yield their number after each.

    Args:
        state: The attack's state.
        ascent: The ascent. Its `x` is then a point that is not evaluated yet.
        loss: The objective.
        moments: For each move, the share of the attack's steps that are done.
        marks: The moves after which the step size is reconsidered.
        steady: Whether the objective is the same in all of them.
    """
    for step, moment in enumerate(moments):
        if state.finished:
            return
        objective = at(loss, moment)
        logits, value, gradient = state.gradient(ascent.x, objective)
        if not steady:
            ascent.judge_again(lambda earlier, now=objective: now(earlier, state.target))  # type: ignore[misc]
        ascent.note(value, gradient, None if steady else logits)
        if step in marks:
            ascent.decide()
        ascent.move()
        yield step + 1


def checkpoints(steps: int, schedule: Schedule = "paper") -> tuple[int, ...]:
    """Return after which moves the step size is reconsidered.

    `paper`: ceil(p_j N) with p_0 = 0, p_1 = .22 and p_{j+1} = p_j + max(p_j - p_{j-1} - .03, .06). `released`: the
    authors' code, which rounds each of these shares down to whole steps, at least 1.

    Args:
        steps: The number of moves N, at least 1.
        schedule: `paper` or `released`.

    Returns:
        Numbers of moves, from 1 to `steps`, rising.

    Raises:
        UserError: `steps` is below 1.
    """
    if steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    # Hundredths in integers: .7 * 20 is 14.000000000000002.
    if schedule == "released":
        width, less, least = (max(share * steps // 100, 1) for share in (22, 3, 6))
        return tuple(_shrinking(width, less, least, steps))
    return tuple(dict.fromkeys(-(-share * steps // 100) for share in _shrinking(22, 3, 6, 100)))


def _shrinking(width: int, less: int, least: int, last: int) -> Iterator[int]:
    """Places from `width` to `last`; each distance is smaller by `less` than the one before, but at least `least`."""
    place = width
    while place <= last:
        yield place
        width = max(width - less, least)
        place += width


def slots(steps: int, count: int) -> tuple[int, ...]:
    """Return where each slot of the steps ends; the last slot is a third longer than the others, and none is empty.

    Args:
        steps: The number of steps, at least `count`.
        count: The number of slots.
    """
    widths = [3.0] * (count - 1) + [4.0]
    return tuple(round(steps * width / sum(widths)) for width in accumulate(widths))
