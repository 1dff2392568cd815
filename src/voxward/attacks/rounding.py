"""The last search of an attack on a file of whole numbers: single steps of the voxels that matter most."""

from __future__ import annotations

import torch
from torch import Tensor

from voxward.attacks.state import AttackState
from voxward.attacks.threat import Ball
from voxward.core.model import Inputs, Objective, Values

SHARE = 0.5
"""The share of the voxels that may move in the first round."""
SHRINKS = 4.0
"""What the share is divided by after a round that gained nothing."""


def polish(state: AttackState, objective: Objective, rounds: int = 6, share: float = SHARE) -> None:
    """Search around the best point: move the voxels of greatest gradient by one step of the file, and keep what helps.

    A step along the sign of the gradient is the smallest change that a file of whole numbers can hold. Each round moves
    a share of the voxels that are able to move, those of greatest gradient. A case that gained nothing moves a smaller
    share in the next round; one that gained moves the same share on from its new point. A case gains where its Dice is
    lower, or the same with a higher objective. Each round costs one gradient, and the first point another one. Nothing
    is done where the file holds any value.

    Args:
        state: The attack's state, whose best point is the start, and in which what is found is noted.
        objective: What is to rise, for example the soft Dice loss.
        rounds: The number of rounds, at least 1.
        share: The share of the voxels that move in the first round, above 0 and at most 1.
    """
    if state.ball.grid is None or not state.ball.movable:
        return
    point = state.best.clone()
    logits, value, gradient = state.gradient(point, objective)
    dice = state.best_dice.clone()
    shares = torch.full_like(dice, share)
    for _ in range(rounds):
        if state.finished:
            return
        proposal = moved(state.ball, point, gradient, shares)
        logits, values, slope = state.differentiate(proposal, objective)
        found = state.offer(proposal, logits)
        gained = (found < dice) | ((found == dice) & (values > value))
        wide = gained.view(-1, *(1,) * (point.ndim - 1))
        point, gradient = torch.where(wide, proposal, point), torch.where(wide, slope, gradient)
        value, dice = torch.where(gained, values, value), torch.where(gained, found, dice)
        shares = torch.where(gained, shares, shares / SHRINKS)


def moved(ball: Ball, volume: Inputs, gradient: Inputs, shares: Values) -> Inputs:
    """Return a volume in which the voxels of greatest gradient are one step of the file further along its sign.

    Args:
        ball: The legal volumes, with what the file can hold.
        volume: A legal volume that the file can hold (b, c, *spatial).
        gradient: The gradient of what is to rise (b, c, *spatial).
        shares: Which share of the voxels that are able to move does so (b); one voxel at least.

    Returns:
        A legal volume that the file can hold (b, c, *spatial).
    """
    assert ball.grid is not None
    ahead = ball.stored(volume + ball.grid.step * gradient.sign())
    able = ahead != volume
    size = torch.where(able, (gradient * ball.grid.step).abs(), -1.0).flatten(1)
    return ball.stored(torch.where(_greatest(size, able.flatten(1), shares).view(volume.shape), ahead, volume))


def _greatest(size: Tensor, able: Tensor, shares: Values) -> Tensor:
    """The share of the able entries of each row that have the greatest size."""
    count = (able.sum(1) * shares).ceil().clamp_min(1).long()
    order = size.argsort(1, descending=True)
    first = torch.arange(size.shape[1], device=size.device) < count[:, None]
    return torch.zeros_like(able).scatter(1, order, first) & able
