"""The smallest perturbation that breaks a case: FAB (Croce & Hein 2020, arXiv 1907.02044) for segmentation.

FAB linearises a decision function at the current point, projects the point and the reference onto the plane where the
linearisation is zero, and goes to a mixture of both; from a broken point it steps back towards the reference.
A case is broken when the Dice of its final mask is below a threshold.

`fab-t` takes the published decision function, the margin to one other class, as a mean over all voxels. The Dice of a
case is lost long before that mean changes its sign, so it finds far points (ROG saw no effect at all within its eps).
`fab-dice` linearises the Dice itself. The Dice that is judged is a step function, so the gradient is that of the soft
Dice, while the distance still to go is the hard Dice minus the threshold: aiming at a fixed level of the soft Dice
would be off by the gap between the two, which depends on the model's confidence and moves with the point. Measured
anew at every point, the aim closes in on the judged boundary whatever that gap is.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxward.attacks.base import JUDGED, Attack, Search
from voxward.attacks.criteria import judge
from voxward.attacks.objectives import SoftDiceLoss, margin
from voxward.attacks.planes import onto_plane
from voxward.attacks.threat import Ball, ThreatModel
from voxward.core.errors import UserError
from voxward.core.model import Inputs, Objective, Scores, Truth, Values, VolumeModel
from voxward.core.progress import Progress, silent

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
"""Bisections of the final line search."""
RADII = (1 / 64, 1 / 16, 1 / 4, 1.0, float("inf"))
"""Rising radii, in units, of the sign steps towards cases that nothing else has broken; the last is the whole box."""
PUSHES = 6
"""Sign steps per radius."""


@dataclass(frozen=True, eq=False)
class MinimumNormResult:
    """The smallest perturbations found, per case of the batch.

    adversarial: the broken volume (b, c, *spatial), the reference where none was found. distance: its norm in the
    threat's unit, 0 where the reference is broken already, inf where nothing was found. dice: of the final mask of
    `adversarial`, judged anew. threshold: the Dice below which a case is broken. gradients, forwards: evaluations of
    the whole batch with and without gradient.
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

    search: Search
    ball: Ball
    threshold: Values
    point: Tensor = field(init=False)
    distance: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.point = self.ball.reference.clone()
        clean = self.search.clean_dice
        self.distance = torch.where(self.breaks(clean), 0.0, float("inf")).to(clean)

    def breaks(self, dice: Values) -> Bool[Tensor, " b"]:
        """Whether a case is broken. No Dice at all is, even where the threshold is 0."""
        return (dice < self.threshold) | (dice <= 0)

    def note(self, volume: Inputs, logits: Scores) -> Values:
        """Keep the volumes that are broken and nearer than before. Returns the Dice."""
        dice = self.search.offer(volume, logits)
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
        return self.note(volume, self.search.model.logits(volume))

    def slope(self, volume: Inputs, objective: Objective) -> tuple[Values, Values, Inputs]:
        """Evaluate with a gradient and note. Returns the objective's value, the Dice and the gradient."""
        logits, values, gradient = self.search.model.value_and_grad(volume, self.search.target, objective)
        return values, self.note(volume, logits), gradient


class MinimumNorm(Attack):
    """Shared by the two decision functions: the search, independent of eps, and its use inside a ball.

    steps: per decision function and restart, each one gradient and one forward. restarts: the first starts at the
    reference, the others at random points within half the smallest distance so far (one start may end in a local
    minimum). threshold: a case is broken when its Dice is below; None: half of its clean Dice. (A benchmark gives half
    of mu, the mean over the cases.)
    """

    norms = ("linf", "l2")
    steps: int
    restarts: int
    threshold: float | None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise UserError(f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UserError(f"threshold is a Dice, above 0 and at most 1, got {self.threshold}")

    @abstractmethod
    def decisions(self, hunt: Hunt) -> Iterator[Decision]:
        """The decision functions, tried one after the other."""

    def cost(self, classes: int) -> tuple[int, int]:
        """See Attack; without `push`, which only cases need that nothing else breaks."""
        functions = classes - 1 if isinstance(self, FabT) else 1
        lines = NARROWINGS + 2 * HALVINGS + 1
        return self.restarts * (functions * self.steps + 1), self.restarts * (functions * self.steps + lines) + JUDGED

    def run(self, search: Search) -> Inputs:
        """See Attack: the smallest broken point; the base class projects it into the ball and judges it."""
        return self._hunt(search).point

    def smallest(
        self,
        model: VolumeModel,
        volume: Inputs,
        target: Truth,
        threat: ThreatModel,
        seed: int = 0,
        progress: Progress = silent,
    ) -> MinimumNormResult:
        """The smallest perturbation that breaks each case, inside the threat's box; its eps plays no part.

        volume, target and errors raised: as when the attack is called.
        """
        began = time.perf_counter()
        search = self.begin(model, volume, target, threat, _open(threat.ball(volume)), seed, progress)
        counted, hunt = search.model, self._hunt(search)
        dice = judge(counted, counted.logits(hunt.point), target)
        distance = torch.where(hunt.breaks(dice), hunt.distance, torch.inf)
        return MinimumNormResult(
            self.name, threat, hunt.point, distance, dice, hunt.threshold, counted.gradients, counted.forwards,
            time.perf_counter() - began,
        )  # fmt: skip

    def _hunt(self, search: Search) -> Hunt:
        clean = search.clean_dice
        threshold = clean / 2 if self.threshold is None else torch.full_like(clean, self.threshold)
        hunt = Hunt(search, _open(search.ball), threshold)
        for restart in range(self.restarts if bool((hunt.distance > 0).any()) else 0):
            for decision in self.decisions(hunt):
                approach(hunt, decision, _start(hunt, restart), self.steps)
                search.report(restart + 1, self.restarts)
            shrink(hunt)
            if not bool(hunt.distance.isfinite().all()):
                push(hunt)
                shrink(hunt)
            straighten(hunt)
        return hunt


@dataclass(frozen=True)
class FabT(MinimumNorm):
    """FAB-T: the mean over all voxels of the margin between the true class and the c-th likeliest other, c = 1..K-1.

    The ranking of the others is that of the reference, per voxel (as AutoAttack's target classes). For regions: the
    mean margin (2 t - 1) z of one region after the other.
    """

    steps: int = 20
    restarts: int = 1
    threshold: float | None = None
    name = "fab-t"

    def decisions(self, hunt: Hunt) -> Iterator[Decision]:
        """See MinimumNorm: K - 1 targets, or one per region."""
        logits, target = hunt.search.start.logits, hunt.search.target
        if hunt.search.model.head == "regions":
            for region in range(logits.shape[1]):
                yield Decision(_region_margin(region), lambda values, dice: values)
            return
        others = logits.scatter(1, target[:, None].long(), -torch.inf).argsort(1, descending=True)
        for rank in range(logits.shape[1] - 1):
            yield Decision(_margin_to(others[:, rank : rank + 1]), lambda values, dice: values)


@dataclass(frozen=True)
class FabDice(MinimumNorm):
    """FAB on the Dice: the slope of the soft Dice, the distance to go of the hard one (see the module)."""

    steps: int = 20
    restarts: int = 1
    threshold: float | None = None
    name = "fab-dice"

    def decisions(self, hunt: Hunt) -> Iterator[Decision]:
        """See MinimumNorm: one."""
        yield Decision(soft_dice, lambda values, dice: dice - AIM * hunt.threshold)


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
    """The final line search: bisect the segment from the reference to each case's point."""
    found = hunt.distance.isfinite() & (hunt.distance > 0)
    if bool(found.any()):
        bisect(hunt, _segment(hunt, hunt.point), found, HALVINGS)


def straighten(hunt: Hunt) -> None:
    """Project the reference along the slope at each case's point, onto the planes between the two.

    Where the model is linear up to its boundary this ends at the smallest perturbation, which the path of the search,
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


def _margin_to(other: Tensor) -> Objective:
    """Mean over the voxels of the true class's logit minus that of class `other` (b, 1, *spatial)."""
    return lambda logits, target: (
        (logits.gather(1, target[:, None].long()) - logits.gather(1, other)).flatten(1).mean(1)
    )


def _region_margin(region: int) -> Objective:
    return lambda logits, target: ((2 * target[:, region] - 1) * logits[:, region]).flatten(1).mean(1)


def _start(hunt: Hunt, restart: int) -> Inputs:
    if restart == 0:
        return hunt.ball.reference
    radius = hunt.distance.clamp_max(1.0).to(hunt.point.dtype) / 2
    around = replace(hunt.ball, eps=_wide(radius, hunt.point) * hunt.ball.unit)
    return around.random(hunt.search.generator)


def _open(ball: Ball) -> Ball:
    """The same box with an infinite radius."""
    return replace(ball, eps=torch.full_like(ball.unit, torch.inf))


def _mean(values: Float[Tensor, "b n"], weight: Float[Tensor, "b n"]) -> Values:
    return (values * weight).sum(1) / weight.sum(1).clamp_min(1)


def _dot(a: Inputs, b: Inputs) -> Values:
    return (a * b).flatten(1).sum(1)


def _wide(per_case: Tensor, like: Tensor) -> Tensor:
    return per_case.to(like.dtype if per_case.is_floating_point() else per_case.dtype).view(-1, *(1,) * (like.ndim - 1))
