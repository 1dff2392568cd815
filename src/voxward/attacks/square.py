"""The Square attack (Andriushchenko et al. 2020, arXiv 1912.00049) for l_inf: random cubes, without gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from voxward.attacks.base import Attack
from voxward.attacks.budget import Budget
from voxward.attacks.objectives import Loss, check_objective, create_objective
from voxward.attacks.state import JUDGED, AttackState, row_of
from voxward.attacks.threat import Ball
from voxward.core.errors import UserError
from voxward.core.model import Box, Head, Inputs, Swept, Values, spacing_of

CHECKPOINTS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10 000, after which the cube's volume is halved (the paper's section 4.1)."""
PUBLISHED = 10_000
"""The number of queries that `CHECKPOINTS` are set for."""


@dataclass(frozen=True)
class Square(Attack):
    """Samples cubes of random place and sign, and keeps each that raises the objective; every perturbation is +-eps.

    The sides of a cube are equal in mm where the model knows its voxel size (see `core.model.spacing_of`).

    The cases of a batch run one after the other, each until its Dice is 0.

    Attributes:
        queries: Evaluations of the model per case, at least 1.
        objective: What is maximised, a name in `OBJECTIVES`. It should be soft, because the judged Dice has plateaus.
        share: The first cube's part of the volume, above 0 and at most 1.
        rescale: Whether the checkpoints, which are set for 10 000 queries, shrink to the number of queries.
        proposals: Cubes that are tried at once from the same point; the best of them is taken. They are computed as one
            batch of whole volumes, so 1 is better if a model updates only the windows that a cube touches.

    Raises:
        UserError: A number is out of range, or the objective is unknown.
    """

    queries: int = 500
    objective: str = "dice"
    share: float = 0.8
    rescale: bool = True
    proposals: int = 1
    name = "square"
    summary = "Square: random cubes of plus or minus eps, kept when they help; needs no gradient"
    needs_gradient = False

    def __post_init__(self) -> None:
        if self.queries < 1 or self.proposals < 1:
            raise UserError(f"queries and proposals must be at least 1, got {self.queries} and {self.proposals}")
        if not 0 < self.share <= 1:
            raise UserError(f"share must be a part of the volume, above 0 and at most 1, got {self.share}")
        create_objective(self.objective)

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """Return the queries of a budget."""
        return {"queries": budget.queries}

    def check(self, head: Head, classes: int) -> None:
        """Check that the objective works on a model; see `Attack.check`."""
        check_objective(create_objective(self.objective), head, classes)

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the greatest numbers of gradients, which is 0, and of forward passes; see `Attack.cost`."""
        return 0, self.queries + JUDGED

    def run(self, state: AttackState) -> Inputs:
        """Run one case after the other, and return the best point of each; see `Attack.run`."""
        state.gather([self._case(state, number) for number in range(len(state.target))])
        return state.best

    def _case(self, state: AttackState, number: int) -> AttackState:
        """The attack on one case, with its own counts: a forward pass of the batch is one of each case."""
        alone = state.row(number)
        total, shown = self.queries * len(state.target), max(1, self.queries // 100)
        for done in self._queries(alone, create_objective(self.objective)):
            if done % shown == 0 or done == self.queries:
                alone.report(number * self.queries + done, total)
        return alone

    def _queries(self, state: AttackState, loss: Loss) -> Iterator[int]:
        """Sample cubes for one case, and yield the number of queries spent so far."""
        kept, value = state.start, _value(state, state.start, loss)
        done = 0
        while not state.finished and done < self.queries:
            found = self._propose(state, kept, done)
            values = _value(state, found, loss)
            for row in range(len(values)):
                state.offer(found.volume[row : row + 1], found.logits[row : row + 1])
            if bool(values.max() > value.max()):
                kept, value = row_of(found, int(values.argmax())), values.max()
            done += len(values)
            yield done

    def _propose(self, state: AttackState, kept: Swept, done: int) -> Swept:
        """The next points, evaluated: stripes first, then cubes on the point that is kept."""
        if done == 0:
            return state.model.sweep(stripes(state.ball, state.generator))
        shape = tuple(kept.volume.shape[2:])
        side = cube(self.share_after(done), shape, spacing_of(state.model, len(shape)))
        if self.proposals == 1:
            volume, box = changed(state.ball, kept.volume, side, state.generator)
            return state.model.logits_after(kept, volume, box)
        several = min(self.proposals, self.queries - done)
        drawn = [changed(state.ball, kept.volume, side, state.generator)[0] for _ in range(several)]
        state.model.forwards += several - 1
        return state.model.sweep(torch.cat(drawn))

    def share_after(self, done: int) -> float:
        """Return the cube's part of the volume after some queries.

        Args:
            done: The number of queries spent.
        """
        scale = PUBLISHED / self.queries if self.rescale else 1.0
        halvings = sum(done * scale > checkpoint for checkpoint in CHECKPOINTS)
        return self.share * 0.5**halvings


def cube(share: float, shape: tuple[int, ...], spacing: tuple[float, ...] | None = None) -> tuple[int, ...]:
    """Return the cube's side along each axis, in voxels: at least 1, and never longer than the axis.

    The sides are equal in mm. Axes of length 1 do not count as dimensions, so that a slice stored as a volume gets
    squares.

    Args:
        share: The cube's part of the volume.
        shape: The volume's spatial shape.
        spacing: The voxel size along each axis, in mm; None: equal along all.
    """
    sizes = (1.0,) * len(shape) if spacing is None else spacing
    edges = [length * size for length, size in zip(shape, sizes, strict=True) if length > 1]
    side = (share * math.prod(edges)) ** (1 / max(1, len(edges)))
    return tuple(min(max(1, round(side / size)), length) for length, size in zip(shape, sizes, strict=True))


def stripes(ball: Ball, generator: torch.Generator) -> Inputs:
    """Return the reference with stripes of +-eps, as a file holds them, the attack's first point.

    The sign is random per channel and column, and constant along the first spatial axis.

    Args:
        ball: The legal volumes.
        generator: The source of the signs.

    Returns:
        A legal volume (1, c, *spatial).
    """
    channels, _, *others = ball.reference.shape[1:]
    signs = _signs((channels, 1, *others), ball.reference, generator)
    return ball.stored(ball.project(ball.reference + ball.eps * signs))


def changed(ball: Ball, volume: Inputs, side: tuple[int, ...], generator: torch.Generator) -> tuple[Inputs, Box]:
    """Return a volume with a random cube set to +-eps, as a file holds it, with a random sign per channel.

    If that would change nothing, the signs are reversed, so that no query is lost.

    Args:
        ball: The legal volumes.
        volume: One case (1, c, *spatial).
        side: The cube's side along each axis, in voxels.
        generator: The source of place and signs.

    Returns:
        The changed volume, and the cube's box.
    """
    shape = volume.shape[2:]
    starts = [_below(length - edge + 1, generator) for length, edge in zip(shape, side, strict=True)]
    box = tuple(slice(start, start + edge) for start, edge in zip(starts, side, strict=True))
    cube_at = (slice(None), slice(None), *box)
    signs = _signs((volume.shape[1], *(1,) * len(shape)), volume, generator)
    inside = ball.stored(ball.project(ball.reference + ball.eps * signs))[cube_at]
    if torch.equal(inside, volume[cube_at]):
        inside = ball.stored(ball.project(ball.reference - ball.eps * signs))[cube_at]
    proposal = volume.clone()
    proposal[cube_at] = inside
    return proposal, box


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator))


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (1, *shape), generator=generator).to(like) * 2 - 1


def _value(state: AttackState, swept: Swept, loss: Loss) -> Values:
    """The objective of each row, all at progress 0: values at different progress could not be compared."""
    return loss(swept.logits, state.target.expand(len(swept.logits), *state.target.shape[1:]), 0.0)
