"""x."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxward.attacks.objectives import SoftDiceLoss, margin
from voxward.attacks.planes import onto_plane
from voxward.attacks.state import AttackState
from voxward.attacks.threat import Ball
from voxward.core.model import Inputs, Objective, Scores, Truth, Values

MIXTURE = 0.1
"""alpha_max: the greatest share of the projection of the reference."""
OVERSHOOT = 1.05
"""eta: how far to go beyond the plane."""
BACKWARD = 0.9
"""beta: the share of the perturbation that is kept after a broken point."""
AIM = 0.95
"""The share of the threshold that fab-dice aims at: the judged Dice has steps, and the threshold is not broken yet."""
LEAP = 1 / 32
"""The first step goes no farther than this (for l2: as a root mean square), in units; later ones at most double it."""
CLOSER = 0.98
"""A share of the smallest distance so far: points beyond are not worth a look."""
NARROWINGS = 4
"""Bisections at the first broken point."""
HALVINGS = 10
"""Bisections of the final line state."""
RADII = (1 / 64, 1 / 16, 1 / 4, 1.0, float("inf"))
"""Rising radii, in units, of the sign steps towards cases that nothing else has broken; the last is the whole box."""
PUSHES = 6
"""Sign steps per radius."""


@dataclass(frozen=True, eq=False)
class Decision:
    """A function whose zero level stands for the boundary; positive on the reference's side.

    objective: the differentiable part. gap: what is left of it to zero, from the objective's value and the hard Dice.
    """

    objective: Objective
    gap: Callable[[Values, Values], Values]


@dataclass(eq=False)
class Hunt:
    """The smallest broken point of each case so far; `ball` has the box and an infinite radius."""

    state: AttackState
    ball: Ball
    threshold: Values
    point: Tensor = field(init=False)
    distance: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.point = self.ball.reference.clone()
        clean = self.state.clean_dice
        self.distance = torch.where(self.breaks(clean), 0.0, float("inf")).to(clean)

    def breaks(self, dice: Values) -> Bool[Tensor, " b"]:
        """Whether a case is broken. No Dice at all is, even where the threshold is 0."""
        return (dice < self.threshold) | (dice <= 0)

    def note(self, volume: Inputs, logits: Scores) -> Values:
        """Keep the volumes that are broken and nearer than before. Returns the Dice."""
        dice = self.state.offer(volume, logits)
        distance = self.ball.distance(volume).to(self.distance)
        nearer = self.breaks(dice) & (distance < self.distance)
        self.point = torch.where(_wide(nearer, volume), volume, self.point)
        self.distance = torch.where(nearer, distance, self.distance)
        return dice

    def nearer(self, x: Inputs, ahead: Inputs) -> Inputs:
        """`ahead` drawn inside the smallest distance so far; before there is one, not much farther out than `x`."""
        first = LEAP * (1.0 if self.ball.norm == "linf" else math.sqrt(x[0].numel()))
        leap = 2 * self.ball.distance(x).to(self.distance) + first
        radius = torch.minimum(CLOSER * self.distance, leap)
        return replace(self.ball, eps=_wide(radius, x) * self.ball.unit).project(ahead)

    def look(self, volume: Inputs) -> Values:
        """Evaluate without a gradient and note. Returns the Dice."""
        return self.note(volume, self.state.model.logits(volume))

    def slope(self, volume: Inputs, objective: Objective) -> tuple[Values, Values, Inputs]:
        """Evaluate with a gradient and note. Returns the objective's value, the Dice and the gradient."""
        logits, values, gradient = self.state.model.value_and_grad(volume, self.state.target, objective)
        return values, self.note(volume, logits), gradient


def begin_at(hunt: Hunt, restart: int) -> Inputs:
    if restart == 0:
        return hunt.ball.reference
    radius = hunt.distance.clamp_max(1.0).to(hunt.point.dtype) / 2
    around = replace(hunt.ball, eps=_wide(radius, hunt.point) * hunt.ball.unit)
    return around.random(hunt.state.generator)


def approach(hunt: Hunt, decision: Decision, start: Inputs, steps: int) -> None:
    """The published search from one start: project, mix, overshoot, step back from broken points.

    Added: no point farther than the nearest broken one is tried; until there is one the distance grows step by step,
    and the first is drawn nearer by a short bisection. Far out, a model that is sure of its error has no slope to come
    back on, and the published search stays there.
    """
    x, reference = start, hunt.ball.reference
    for _ in range(steps):
        values, dice, gradient = hunt.slope(x, decision.objective)
        gap = decision.gap(values, dice).to(x.dtype)
        known = hunt.distance.isfinite()
        ahead = hunt.nearer(x, toward_boundary(hunt.ball, x, gradient, gap))
        dice_ahead = hunt.look(ahead)
        broken = hunt.breaks(dice_ahead)
        if bool((broken & ~known).any()):
            bisect(hunt, _segment(hunt, ahead), broken & ~known, NARROWINGS)
        x = torch.where(_wide(broken, x), reference + BACKWARD * (hunt.point - reference), ahead)


def toward_boundary(ball: Ball, x: Inputs, gradient: Inputs, gap: Values) -> Inputs:
    """One step of FAB (its equation 9): the mixture of the overshot projections of x and of the reference."""
    reference = ball.reference
    of_x = onto_plane(ball, x, gradient, -gap)
    of_reference = onto_plane(ball, reference, gradient, -gap - _dot(gradient, reference - x))
    length, whole = ball.distance(reference + of_x), ball.distance(reference + of_reference)
    share = _wide((length / (length + whole).clamp_min(1e-30)).clamp_max(MIXTURE), x)
    mixed = (1 - share) * (x + OVERSHOOT * of_x) + share * (reference + OVERSHOOT * of_reference)
    return torch.minimum(torch.maximum(mixed, ball.low), ball.high)


def shrink(hunt: Hunt) -> None:
    """The final line state: bisect the segment from the reference to each case's point."""
    found = hunt.distance.isfinite() & (hunt.distance > 0)
    if bool(found.any()):
        bisect(hunt, _segment(hunt, hunt.point), found, HALVINGS)


def straighten(hunt: Hunt) -> None:
    """Project the reference along the slope at each case's point, onto the planes between the two.

    Where the model is linear up to its boundary this ends at the smallest perturbation, which the path of the state,
    cut off at the box and at rising distances, need not. Where it is not, this costs one gradient and one forward.
    """
    ball, found = hunt.ball, hunt.distance.isfinite() & (hunt.distance > 0)
    if not bool(found.any()):
        return
    gradient = hunt.slope(hunt.point, soft_dice)[2]
    fall = _dot(gradient, hunt.point - ball.reference)

    def path(share: Values) -> Inputs:
        return ball.project(ball.reference + onto_plane(ball, ball.reference, gradient, share.to(fall) * fall))

    found &= hunt.breaks(hunt.look(path(torch.ones_like(hunt.distance))))
    if bool(found.any()):
        bisect(hunt, path, found, HALVINGS)


def bisect(hunt: Hunt, path: Callable[[Values], Inputs], cases: Bool[Tensor, " b"], halvings: int) -> None:
    """Look at points of a path from the reference (0) to an end (1) that is broken in `cases`."""
    low, high = torch.zeros_like(hunt.distance), torch.ones_like(hunt.distance)
    for _ in range(halvings):
        middle = torch.where(cases, (low + high) / 2, 0.0)
        broken = hunt.breaks(hunt.look(path(middle)))
        high, low = torch.where(broken, middle, high), torch.where(broken, low, middle)


def _segment(hunt: Hunt, end: Inputs) -> Callable[[Values], Inputs]:
    reference = hunt.ball.reference
    return lambda share: hunt.ball.project(reference + _wide(share, end) * (end - reference))


def push(hunt: Hunt) -> None:
    """Sign steps within rising radii, up to the whole box, until every case is broken or nothing is left to try.

    First on the soft Dice, then on the hinge of the margins, whose gradient does not vanish where the model is sure.
    """
    for objective in (soft_dice, hinge):
        x = hunt.ball.reference
        for radius in RADII:
            reach = min(radius, 1.0) * hunt.ball.unit if radius < torch.inf else hunt.ball.high - hunt.ball.low
            ball = replace(hunt.ball, norm="linf", eps=reach)
            for _ in range(PUSHES):
                x = ball.project(x - 0.5 * reach * hunt.slope(x, objective)[2].sign())
            hunt.look(x)
            if bool(hunt.distance.isfinite().all()):
                return


def soft_dice(logits: Scores, target: Truth) -> Values:
    """Soft Dice per case, the mean over the foreground classes (or regions) in the target (see SoftDiceLoss)."""
    return 1 - SoftDiceLoss()(logits, target, 0.0)


def hinge(logits: Scores, target: Truth) -> Values:
    """Mean over the voxels of the margin to being wrong by 1, foreground and background weighing the same."""
    inside = (target > 0).flatten(1)
    kept = (1 - margin(logits, target)).relu().flatten(1)
    return _mean(kept, inside.to(kept)) + _mean(kept, (~inside).to(kept))


def without_radius(ball: Ball) -> Ball:
    """The same box with an infinite radius."""
    return replace(ball, eps=torch.full_like(ball.unit, torch.inf))


def _mean(values: Float[Tensor, "b n"], weight: Float[Tensor, "b n"]) -> Values:
    return (values * weight).sum(1) / weight.sum(1).clamp_min(1)


def _dot(a: Inputs, b: Inputs) -> Values:
    return (a * b).flatten(1).sum(1)


def _wide(per_case: Tensor, like: Tensor) -> Tensor:
    return per_case.to(like.dtype if per_case.is_floating_point() else per_case.dtype).view(-1, *(1,) * (like.ndim - 1))
