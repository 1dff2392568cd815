"""Low-frequency perturbations: smooth fields, which survive resampling and carry over to other models.

What an attack of this file moves is a field u on a coarse grid, and never a voxel. Two linear maps lead from there to
the voxels, each the product of one matrix per axis:

- `Spline`: a uniform cubic B-spline. Its weights are not negative and sum to 1, so |u| <= 1 on the grid means that no
  voxel is changed by more than eps.
- `Band`: the lowest frequencies of the discrete cosine transform, one for each point of the grid along an axis. Such a
  field overshoots between the points, so it is divided by its greatest value where that is above 1.

For `l2` both maps are divided by the greatest factor by which they lengthen a field, so that |u| <= 1 is enough, too.
What the box of legal intensities cuts off is lost to the field, and is then no longer band-limited.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from voxward.attacks.apgd import APGD
from voxward.attacks.base import Attack, learnt
from voxward.attacks.objectives import OBJECTIVES
from voxward.attacks.state import AttackState, Counted
from voxward.attacks.threat import Ball
from voxward.core.errors import UserError
from voxward.core.model import (
    Box,
    Head,
    Inputs,
    Objective,
    Scores,
    Swept,
    Truth,
    Values,
    VolumeModel,
    Wrapped,
    spacing_of,
)

FEWEST = 4
"""The fewest points of a grid along an axis that has so many voxels: with fewer a field could hardly change there."""


@dataclass(frozen=True, eq=False)
class Field:
    """A linear map from a coarse grid to voxels, by one matrix per spatial axis.

    The grid's values stand in the first corner of a volume that is as large as the field, because a model's volume is
    as large as its logits; the rest of it is ignored.

    Attributes:
        matrices: For each spatial axis a matrix (voxels, points).
        peak: The greatest absolute value that a field may have, to which it is scaled down; None: it is not scaled.
    """

    matrices: tuple[Tensor, ...]
    peak: float | None = None

    @property
    def points(self) -> tuple[int, ...]:
        """Return the spatial shape of the coarse grid."""
        return tuple(matrix.shape[1] for matrix in self.matrices)

    @property
    def corner(self) -> tuple[slice, ...]:
        """Return where the grid's values stand in a volume (b, c, *spatial)."""
        return (slice(None), slice(None), *map(slice, self.points))

    def __call__(self, u: Tensor) -> Tensor:
        """Return the field on all voxels.

        Args:
            u: A volume (b, c, *spatial) with the grid's values in its first corner.

        Returns:
            The field (b, c, *spatial), differentiable in `u`.
        """
        u = u[self.corner]
        for axis, matrix in enumerate(self.matrices, 2):
            u = torch.tensordot(matrix, u, ([1], [axis])).movedim(0, axis)
        if self.peak is None:
            return u
        highest = u.abs().amax(tuple(range(2, u.ndim)), keepdim=True) / self.peak
        return u / highest.clamp_min(1.0)


@dataclass(frozen=True, eq=False)
class OnGrid(Wrapped):
    """A model of the fields on a coarse grid: its volume is u, and every field is tried on the attacked model.

    All evaluations are offered to the attack on the voxels, so that the legal volume of lowest Dice is kept there, and
    are counted there.

    Attributes:
        inner: The attacked model.
        state: The attack on the voxels.
        field: The map from the grid to the voxels.
    """

    inner: VolumeModel
    state: AttackState
    field: Field

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Compute the objective at a field, and its gradient on the grid; see `VolumeModel.value_and_grad`."""
        ball = self.state.ball
        with torch.enable_grad():
            leaf = volume.detach().requires_grad_()
            moved = ball.reference + ball.eps * self.field(leaf)
            logits, values, gradient = self.state.gradient(ball.project(moved.detach()), objective)
            # A voxel at the end of its range does not follow the field any further.
            free = (moved >= ball.low) & (moved <= ball.high) & (ball.low < ball.high)
            (pulled,) = torch.autograd.grad(moved, leaf, gradient * free)
        return logits, values, pulled

    def logits(self, volume: Inputs) -> Scores:
        """Compute the logits at a field; see `VolumeModel.logits`."""
        return self.state.look(self.volume(volume))

    def sweep(self, volume: Inputs) -> Swept:
        """Compute the logits at a field; there is no memo. See `VolumeModel.sweep`."""
        return Swept(volume, self.logits(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Compute the logits at another field; a point of the grid reaches too far for an update to save work."""
        return self.sweep(volume)

    def volume(self, u: Inputs) -> Inputs:
        """Return the legal volume that belongs to a field.

        Args:
            u: A volume (b, c, *spatial) with the grid's values in its first corner.
        """
        ball = self.state.ball
        return ball.project(ball.reference + ball.eps * self.field(u))


@dataclass(frozen=True)
class LowFrequency(Attack):
    """Auto-PGD over the fields on a coarse grid; the lowest Dice seen counts, as always.

    A grid has the same distance between its points in mm along all axes, as far as the voxel size is known (see
    `core.model.spacing_of`): `factor` voxels of the finest axis, and never less than one voxel. An axis has at least
    four points, or as many as it has voxels, so short axes are coarsened less.

    Attributes:
        objective: A name in `OBJECTIVES`.
        factor: The distance between two points of the grid, in voxels of the finest axis, above 1.
        steps: Gradient steps per restart, as of `APGD`.
        restarts: At least 1, as of `APGD`.

    Raises:
        UserError: A number is illegal, or the objective is unknown.
    """

    norms = ("linf", "l2")

    objective: str = "dice"
    factor: int | float = 4
    steps: int = 20
    restarts: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 1):
            raise UserError(f"factor must be above 1, such as 2, 4 or 8, got {self.factor}")
        assert self.inner.steps  # whatever is wrong with the other options is said now

    @cached_property
    def inner(self) -> APGD:
        """The search on the grid."""
        return APGD(self.objective, self.steps, self.restarts)

    @staticmethod
    @abstractmethod
    def matrix(voxels: int, points: int) -> Tensor:
        """Return what leads from the grid to the voxels along one axis.

        Args:
            voxels: The number of voxels.
            points: The number of points, from 1 to `voxels`.

        Returns:
            The matrix (voxels, points), float64.
        """

    @abstractmethod
    def peak(self) -> float | None:
        """Return to which greatest value a field is scaled down in an l_inf ball; None: it never has to be."""

    def field(self, ball: Ball, spacing: Sequence[float]) -> Field:
        """Return the map from the grid to the voxels.

        Args:
            ball: The legal volumes.
            spacing: The voxel size along each spatial axis.
        """
        shape, cell = ball.reference.shape[2:], self.factor * min(spacing)
        found = [self.matrix(length, points(length, cell / size)) for length, size in zip(shape, spacing, strict=True)]
        if ball.norm == "l2":
            found = [matrix / torch.linalg.matrix_norm(matrix, 2) for matrix in found]
        return Field(tuple(matrix.to(ball.reference) for matrix in found), self.peak() if ball.norm == "linf" else None)

    def check(self, head: Head, classes: int) -> None:
        """Check that the objective works on a model; see `Attack.check`."""
        self.inner.check(head, classes)

    def doubts(self, state: AttackState) -> Iterator[str]:
        """Yield what makes it doubtful that the attack learnt from its gradients; see `Attack.doubts`."""
        entry = OBJECTIVES[self.objective]
        yield from learnt(self.name, state, entry.steady, entry.saturates)

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the greatest numbers of gradients and of forward passes; see `Attack.cost`."""
        return self.inner.cost(classes)

    def run(self, state: AttackState) -> Inputs:
        """Climb over the fields, and return the best volume seen; see `Attack.run`."""
        nested = self.nested(state)
        self.inner.run(nested)
        state.done = nested.done
        return state.best

    def nested(self, state: AttackState) -> AttackState:
        """Return the state of a search on the grid, whose evaluations all count for a state of the voxels.

        Args:
            state: The state of the attack on the voxels.
        """
        ball, field = state.ball, self.field(state.ball, spacing_of(state.model, state.ball.reference.ndim - 2))
        model = Counted(OnGrid(state.model, state, field))
        inside = unit_ball(ball, field)
        start = Swept(inside.reference, state.start.logits)
        return AttackState(model, state.target, inside, state.generator, start, state.progress, state.name)


class Spline(LowFrequency):
    """Fields that are cubic B-splines."""

    summary = "Coarse: Auto-PGD over smooth fields, cubic B-splines on a grid"

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return `coarse-` with the factor, such as `coarse-4`."""
        return f"coarse-{self.factor:g}"

    @staticmethod
    def matrix(voxels: int, points: int) -> Tensor:
        """Return the weights of a cubic B-spline, not negative and with sum 1; see `LowFrequency.matrix`.

        Beyond the ends the grid repeats its last point. As many points as voxels give the identity.
        """
        if points == voxels:
            return torch.eye(voxels, dtype=torch.float64)
        place = (torch.arange(voxels, dtype=torch.float64) + 0.5) * points / voxels - 0.5
        below, found = place.floor(), torch.zeros(voxels, points, dtype=torch.float64)
        for shift in (-1, 0, 1, 2):
            node = below + shift
            weight = _cubic((place - node).abs())
            found.scatter_add_(1, node.clamp(0, points - 1).long()[:, None], weight[:, None])
        return found

    def peak(self) -> None:
        """Return None: a mean of values from -1 to 1 is one; see `LowFrequency.peak`."""


class Band(LowFrequency):
    """Fields that hold the lowest frequencies of the cosine transform only."""

    summary = "Band: Auto-PGD over fields of low frequencies, on a grid"

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return `band-` with the factor, such as `band-4`."""
        return f"band-{self.factor:g}"

    @staticmethod
    def matrix(voxels: int, points: int) -> Tensor:
        """Return the cosine interpolation, without frequencies from `points` on; see `LowFrequency.matrix`."""
        return math.sqrt(voxels / points) * _cosines(voxels)[:points].T @ _cosines(points)

    def peak(self) -> float:
        """Return 1: between its points a field may be greater; see `LowFrequency.peak`."""
        return 1.0


def points(voxels: int, factor: float) -> int:
    """Return how many points a grid has along an axis.

    Args:
        voxels: The axis's number of voxels.
        factor: The wanted distance between points in voxels of this axis; below 1 it counts as 1.
    """
    return min(voxels, max(FEWEST, math.ceil(voxels / max(1.0, factor))))


def unit_ball(ball: Ball, field: Field) -> Ball:
    """Return the legal values of a grid: around 0, with radius 1 in the norm of the ball of volumes.

    Args:
        ball: The legal volumes.
        field: The map from the grid to the voxels.
    """
    nothing = torch.zeros_like(ball.reference)
    far = torch.zeros_like(nothing)
    far[field.corner] = torch.inf  # elsewhere 0, so that nothing moves that no field depends on
    one = torch.ones_like(nothing[:1, :1].amax(tuple(range(2, nothing.ndim)), keepdim=True))
    return Ball(ball.norm, nothing, one, -far, far, one)


def _cubic(distance: Tensor) -> Tensor:
    """The cubic B-spline at a distance from its centre, which is 0 from a distance of 2 on."""
    near = 2 / 3 - distance**2 + distance**3 / 2
    return torch.where(distance < 1, near, (2 - distance).clamp_min(0) ** 3 / 6)


def _cosines(length: int) -> Tensor:
    """The orthonormal cosine transform (type II) as a matrix, one row per frequency."""
    place, frequency = torch.arange(length, dtype=torch.float64) + 0.5, torch.arange(length, dtype=torch.float64)
    found = torch.cos(math.pi / length * frequency[:, None] * place) * math.sqrt(2 / length)
    found[0] /= math.sqrt(2)
    return found
