"""How FAB finds the boundary between whole and broken: steps towards it, line bisections, and pushes of hard cases."""

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
from voxward.core.model import Inputs, Objective, Scores, Truth, Values, annotated_part

MIXTURE = 0.1
"""alpha_max: the greatest share of the projection of the reference."""
OVERSHOOT = 1.05
"""eta: how far to go beyond the plane."""
BACKWARD = 0.9
"""beta: the share of the perturbation that is kept after a broken point."""
AIM = 0.95
"""The share of the threshold that fab-dice aims at: the judged Dice has steps, and at the threshold a case is whole."""
LEAP = 1 / 32
"""The longest first step, in units (for l2: as a root mean square); later steps at most double the distance."""
BELOW = 1e-4
"""The share by which the point that a file holds must be nearer than the nearest one so far."""
CLOSER = 0.98
"""The share of the smallest distance so far within which points are evaluated; farther ones are not worth it."""
NARROWINGS = 4
"""Bisections at the first broken point."""
HALVINGS = 10
"""Bisections of the final line search."""
RADII = (1 / 64, 1 / 16, 1 / 4, 1.0, float("inf"))
"""Rising radii, in units, of the sign steps towards cases that nothing else has broken; the last is the whole box."""
PUSHES = 6
"""Sign steps per radius."""


@dataclass(frozen=True, eq=False)
class Decision:
    """A function of a volume that is positive on the reference's side of the boundary, and 0 on the boundary.

    Attributes:
        objective: Its differentiable part.
        gap: How far the function is from 0, from the objective's value and the hard Dice, per case.
    """

    objective: Objective
    gap: Callable[[Values, Values], Values]


@dataclass(eq=False)
class Hunt:
    """The smallest broken point of each case that was found so far.

    Attributes:
        state: The attack's state.
        ball: The norm, the unit and the box of legal intensities, with an infinite radius.
        threshold: The Dice (b) below which a case is broken.
        point: The nearest broken volume (b, c, *spatial); the reference where there is none.
        distance: Its distance from the reference (b); 0 where the reference is broken, inf where nothing was found.
    """

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
        """Return whether each case is broken (b); a case without any Dice is, even if the threshold is 0.

        Args:
            dice: The Dice per case (b).
        """
        return (dice < self.threshold) | (dice <= 0)

    def note(self, volume: Inputs, logits: Scores) -> Values:
        """Keep the volumes that are broken and nearer than before.

        Args:
            volume: Volumes that were evaluated (b, c, *spatial).
            logits: Their logits.

        Returns:
            Their Dice (b).
        """
        dice = self.state.offer(volume, logits)
        distance = self.ball.distance(volume).to(self.distance)
        nearer = self.breaks(dice) & (distance < self.distance)
        self.point = torch.where(_wide(nearer, volume), volume, self.point)
        self.distance = torch.where(nearer, distance, self.distance)
        return dice

    def held(self, volume: Inputs) -> Inputs:
        """Return the nearest volume that the file can hold and that is nearer than the smallest distance so far.

        Args:
            volume: Intensities (b, c, *spatial).
        """
        if self.ball.grid is None:
            return volume
        below = (self.distance * (1 - BELOW)).to(volume.dtype)
        return replace(self.ball, eps=_wide(below, volume) * self.ball.unit).stored(volume)

    def nearer(self, x: Inputs, ahead: Inputs) -> Inputs:
        """Draw a point inside the smallest distance so far or, before there is one, to near the last point.

        Args:
            x: The last point (b, c, *spatial).
            ahead: The point to draw.

        Returns:
            The point, moved towards the reference where it was too far.
        """
        first = LEAP * (1.0 if self.ball.norm == "linf" else math.sqrt(x[0].numel()))
        leap = 2 * self.ball.distance(x).to(self.distance) + first
        radius = torch.minimum(CLOSER * self.distance, leap)
        return replace(self.ball, eps=_wide(radius, x) * self.ball.unit).project(ahead)

    def look(self, volume: Inputs) -> Values:
        """Evaluate volumes, as files hold them, and keep those that are broken and nearer than before.

        Args:
            volume: Intensities (b, c, *spatial).

        Returns:
            Their Dice (b).
        """
        volume = self.held(volume)
        return self.note(volume, self.state.model.logits(volume))

    def slope(self, volume: Inputs, objective: Objective) -> tuple[Values, Values, Inputs]:
        """Evaluate volumes as they are with a gradient, and keep those that are broken and nearer than before.

        Args:
            volume: Intensities (b, c, *spatial), as `held` returns them.
            objective: What to differentiate.

        Returns:
            The objective's value (b), the Dice (b) and the gradient (b, c, *spatial).
        """
        logits, values, gradient = self.state.differentiate(volume, objective)
        return values, self.note(volume, logits), gradient


def begin_at(hunt: Hunt, restart: int) -> Inputs:
    """Return where a restart begins.

    Args:
        hunt: The smallest broken points so far.
        restart: The number of the restart. The first, 0, begins at the reference, the others at random points within
            half the smallest distance so far (at most half a unit).
    """
    if restart == 0:
        return hunt.ball.reference
    radius = hunt.distance.clamp_max(1.0).to(hunt.point.dtype) / 2
    around = replace(hunt.ball, eps=_wide(radius, hunt.point) * hunt.ball.unit)
    return around.random(hunt.state.generator)


def approach(hunt: Hunt, decision: Decision, start: Inputs, steps: int) -> None:
    """Run the published algorithm from one start: project, mix, overshoot, and step back from broken points.

    Two things are added. No point farther than the nearest broken one is tried. Until there is one, the distance grows
    step by step, and the first broken point is drawn nearer by a short bisection. Far out, a model that is sure of its
    error has no slope to come back on, and the published algorithm stays there.

    Args:
        hunt: The smallest broken points so far, which are updated.
        decision: The decision function.
        start: The first point (b, c, *spatial).
        steps: The number of steps.
    """
    x, reference = start, hunt.ball.reference
    for _ in range(steps):
        at = hunt.held(x)
        values, dice, gradient = hunt.slope(at, decision.objective)
        # The linearisation holds at the point that was evaluated; here is its value at the attack's own point.
        gap = decision.gap(values, dice).to(x.dtype) + _dot(gradient, x - at)
        known = hunt.distance.isfinite()
        ahead = hunt.nearer(x, toward_boundary(hunt.ball, x, gradient, gap))
        dice_ahead = hunt.look(ahead)
        broken = hunt.breaks(dice_ahead)
        if bool((broken & ~known).any()):
            bisect(hunt, _segment(hunt, ahead), broken & ~known, NARROWINGS)
        x = torch.where(_wide(broken, x), reference + BACKWARD * (hunt.point - reference), ahead)


def toward_boundary(ball: Ball, x: Inputs, gradient: Inputs, gap: Values) -> Inputs:
    """Return FAB's next point (its equation 9): the mixture of the overshot projections of x and of the reference.

    Args:
        ball: The norm, the unit and the box of legal intensities.
        x: The current point (b, c, *spatial).
        gradient: The gradient of the decision function there.
        gap: The value of the decision function there (b).
    """
    reference = ball.reference
    of_x = onto_plane(ball, x, gradient, -gap)
    of_reference = onto_plane(ball, reference, gradient, -gap - _dot(gradient, reference - x))
    length, whole = ball.distance(reference + of_x), ball.distance(reference + of_reference)
    share = _wide((length / (length + whole).clamp_min(1e-30)).clamp_max(MIXTURE), x)
    mixed = (1 - share) * (x + OVERSHOOT * of_x) + share * (reference + OVERSHOOT * of_reference)
    return torch.minimum(torch.maximum(mixed, ball.low), ball.high)


def shrink(hunt: Hunt) -> None:
    """Bisect the segment from the reference to each case's nearest broken point, the final line search.

    Args:
        hunt: The smallest broken points so far, which are updated.
    """
    found = hunt.distance.isfinite() & (hunt.distance > 0)
    if bool(found.any()):
        bisect(hunt, _segment(hunt, hunt.point), found, HALVINGS)


def straighten(hunt: Hunt) -> None:
    """Project the reference along the slope at each case's point, onto planes between the two.

    Where the model is linear up to its boundary, this ends at the smallest perturbation. The path of the attack need
    not end there, because it is cut off at the box and at rising distances. Where the model is not linear, this costs
    one gradient and one forward pass.

    Args:
        hunt: The smallest broken points so far, which are updated.
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
    """Evaluate points of a path from the reference (0) to an end (1), each halfway between whole and broken.

    Args:
        hunt: The smallest broken points so far, which are updated.
        path: From a share of the path per case (b) to a volume.
        cases: The cases (b) whose end is broken; the others stay at the reference.
        halvings: How often the interval is halved.
    """
    low, high = torch.zeros_like(hunt.distance), torch.ones_like(hunt.distance)
    for _ in range(halvings):
        middle = torch.where(cases, (low + high) / 2, 0.0)
        broken = hunt.breaks(hunt.look(path(middle)))
        high, low = torch.where(broken, middle, high), torch.where(broken, low, middle)


def _segment(hunt: Hunt, end: Inputs) -> Callable[[Values], Inputs]:
    reference = hunt.ball.reference
    return lambda share: hunt.ball.project(reference + _wide(share, end) * (end - reference))


def push(hunt: Hunt) -> None:
    """Take sign steps within rising radii, up to the whole box, until every case is broken or no radius is left.

    The first objective is the soft Dice. The second is the hinge of the margins, whose gradient does not vanish where
    the model is sure.

    Args:
        hunt: The smallest broken points so far, which are updated.
    """
    for objective in (soft_dice, hinge):
        x = hunt.ball.reference
        for radius in RADII:
            reach = min(radius, 1.0) * hunt.ball.unit if radius < torch.inf else hunt.ball.high - hunt.ball.low
            ball = replace(hunt.ball, norm="linf", eps=reach)
            for _ in range(PUSHES):
                x = ball.project(x - 0.5 * reach * hunt.slope(hunt.held(x), objective)[2].sign())
            hunt.look(x)
            if bool(hunt.distance.isfinite().all()):
                return


def soft_dice(logits: Scores, target: Truth) -> Values:
    """Compute the soft Dice per case (b), the mean over the foreground classes or regions that are in the ground truth.

    Args:
        logits: Logits (b, k, *spatial).
        target: The ground truth.
    """
    return 1 - SoftDiceLoss()(logits, target, 0.0)


def hinge(logits: Scores, target: Truth) -> Values:
    """Compute the mean over the voxels of how far the margin is from being wrong by 1, per case (b).

    Foreground and background weigh the same.

    Args:
        logits: Logits (b, k, *spatial).
        target: The ground truth.
    """
    truth, known = annotated_part(target)
    inside, outside = (truth > 0).flatten(1), (truth == 0).flatten(1)
    if known is not None:
        outside &= known.flatten(1)
    kept = (1 - margin(logits, truth)).relu().flatten(1)
    return _mean(kept, inside.to(kept)) + _mean(kept, outside.to(kept))


def without_radius(ball: Ball) -> Ball:
    """Return the ball with the same box and an infinite radius.

    Args:
        ball: The ball.
    """
    return replace(ball, eps=torch.full_like(ball.unit, torch.inf))


def _mean(values: Float[Tensor, "b n"], weight: Float[Tensor, "b n"]) -> Values:
    return (values * weight).sum(1) / weight.sum(1).clamp_min(1)


def _dot(a: Inputs, b: Inputs) -> Values:
    return (a * b).flatten(1).sum(1)


def _wide(per_case: Tensor, like: Tensor) -> Tensor:
    return per_case.to(like.dtype if per_case.is_floating_point() else per_case.dtype).view(-1, *(1,) * (like.ndim - 1))
