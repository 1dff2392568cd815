"""Square attack (Croce et al. 2020, arXiv 1912.00049) for l_inf: a random search over cubes, without gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from voxward.attacks.base import Attack
from voxward.attacks.budget import Budget
from voxward.attacks.objectives import Loss, check_objective, create_objective
from voxward.attacks.state import JUDGED, AttackState, Counted
from voxward.attacks.threat import Ball
from voxward.core.errors import UserError
from voxward.core.model import Box, Head, Inputs, Swept, Values

CHECKPOINTS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10 000, after which the cube's volume is halved (the paper's section 4.1)."""
PUBLISHED = 10_000


@dataclass(frozen=True)
class Square(Attack):
    """Every perturbation lies at +-eps; a cube of random place and sign per channel is kept when it helps.

    queries: evaluations of the model per case. objective: what is maximised (see `create_objective`); a soft one, for
    the judged Dice has plateaus. share: the first cube's part of the volume. rescale: whether the checkpoints, set for
    10 000 queries, shrink to the budget. proposals: cubes tried at once from the same point, the best of them taken;
    they are one batch, computed whole, so 1 is better where a model updates only the windows that a cube touches.
    The cases of a batch run one after the other, each until its Dice is 0.
    """

    queries: int = 500
    objective: str = "dice"
    share: float = 0.8
    rescale: bool = True
    proposals: int = 1
    name = "square"
    summary = (
        "Square, random cubes of plus or minus eps, kept when they help (Andriushchenko et al. 2020)"
    )
    needs_gradient = False

    def __post_init__(self) -> None:
        if self.queries < 1 or self.proposals < 1:
            raise UserError(f"queries and proposals must be at least 1, got {self.queries} and {self.proposals}")
        if not 0 < self.share <= 1:
            raise UserError(f"share is a part of the volume, above 0 and at most 1, got {self.share}")
        create_objective(self.objective)

    @classmethod
    def budgeted(cls, budget: Budget) -> dict[str, Any]:
        """X."""
        return {"queries": budget.queries}

    def check(self, head: Head, classes: int) -> None:
        """See Attack."""
        check_objective(create_objective(self.objective), head, classes)

    def cost(self, classes: int) -> tuple[int, int]:
        """See Attack."""
        return 0, self.queries + JUDGED

    def run(self, state: AttackState) -> Inputs:
        """See Attack."""
        cases = [self._case(state, n) for n in range(len(state.target))]
        length = max(len(case.history) for case in cases)
        rows = [torch.cat(case.history + case.history[-1:] * (length - len(case.history))) for case in cases]
        state.history += list(torch.stack(rows, 1)[1:])
        state.best = torch.cat([case.best for case in cases])
        state.best_dice = torch.cat([case.best_dice for case in cases])
        state.model.forwards += max(case.model.forwards for case in cases)
        return state.best

    def _case(self, state: AttackState, number: int) -> AttackState:
        """The search on one case, with its own books: a forward of the batch is one of each case."""
        index = torch.tensor([number], device=state.target.device)
        alone = replace(
            state, model=Counted(state.model.inner), target=state.target[index], ball=state.ball.rows(index),
            start=_row(state.start, number),
        )  # fmt: skip
        total, shown = self.queries * len(state.target), max(1, self.queries // 100)
        for done in self._queries(alone, create_objective(self.objective)):
            if done % shown == 0 or done == self.queries:
                alone.report(number * self.queries + done, total)
        return alone

    def _queries(self, state: AttackState, loss: Loss) -> Iterator[int]:
        """AttackState one case; yields the number of queries spent so far."""
        kept, value = state.start, _value(state, state.start, loss)
        done = 0
        while not state.finished and done < self.queries:
            found = self._propose(state, kept, done)
            values = _value(state, found, loss)
            for row in range(len(values)):
                state.offer(found.volume[row : row + 1], found.logits[row : row + 1])
            if bool(values.max() > value.max()):
                kept, value = _row(found, int(values.argmax())), values.max()
            done += len(values)
            yield done

    def _propose(self, state: AttackState, kept: Swept, done: int) -> Swept:
        """The next points, evaluated: stripes first, then cubes on the point that is kept."""
        if done == 0:
            return state.model.sweep(stripes(state.ball, state.generator))
        side = cube(self.share_after(done), tuple(kept.volume.shape[2:]))
        if self.proposals == 1:
            volume, box = changed(state.ball, kept.volume, side, state.generator)
            return state.model.logits_after(kept, volume, box)
        several = min(self.proposals, self.queries - done)
        drawn = [changed(state.ball, kept.volume, side, state.generator)[0] for _ in range(several)]
        state.model.forwards += several - 1
        return state.model.sweep(torch.cat(drawn))

    def share_after(self, done: int) -> float:
        """The cube's part of the volume after so many queries."""
        scale = PUBLISHED / self.queries if self.rescale else 1.0
        halvings = sum(done * scale > checkpoint for checkpoint in CHECKPOINTS)
        return self.share * 0.5**halvings


def cube(share: float, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The cube's side per axis: the root of its part of the voxels, at least 1 and never longer than the axis.

    Axes of length 1 do not count as dimensions: a slice stored as a volume gets squares.
    """
    dimensions = max(1, sum(length > 1 for length in shape))
    side = max(1, round((share * math.prod(shape)) ** (1 / dimensions)))
    return tuple(min(side, length) for length in shape)


def stripes(ball: Ball, generator: torch.Generator) -> Inputs:
    """+-eps of random sign per channel and column, constant along the first spatial axis (1, c, *spatial)."""
    channels, _, *others = ball.reference.shape[1:]
    return ball.project(ball.reference + ball.eps * _signs((channels, 1, *others), ball.reference, generator))


def changed(ball: Ball, volume: Inputs, side: tuple[int, ...], generator: torch.Generator) -> tuple[Inputs, Box]:
    """One case's volume with a random cube set to +-eps, a random sign per channel, and the cube's box.

    Where that would change nothing the signs are reversed, so that no query is lost.
    """
    shape = volume.shape[2:]
    starts = [_below(length - edge + 1, generator) for length, edge in zip(shape, side, strict=True)]
    box = tuple(slice(start, start + edge) for start, edge in zip(starts, side, strict=True))
    window = (slice(None), slice(None), *box)
    signs = _signs((volume.shape[1], *(1,) * len(shape)), volume, generator)
    inside = ball.project(ball.reference + ball.eps * signs)[window]
    if torch.equal(inside, volume[window]):
        inside = ball.project(ball.reference - ball.eps * signs)[window]
    proposal = volume.clone()
    proposal[window] = inside
    return proposal, box


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator))


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (1, *shape), generator=generator).to(like) * 2 - 1


def _value(state: AttackState, swept: Swept, loss: Loss) -> Values:
    """The objective of each row, all at one progress: values of different moments could not be compared."""
    return loss(swept.logits, state.target.expand(len(swept.logits), *state.target.shape[1:]), 0.0)


def _row(swept: Swept, row: int) -> Swept:
    """One row; the memo is that of the whole batch, so a batch loses it."""
    if len(swept.volume) == 1:
        return swept
    return Swept(swept.volume[row : row + 1], swept.logits[row : row + 1])
