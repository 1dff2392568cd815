"""The nearest point of a plane inside a box, in the l_inf and the l2 norm."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.attacks.threat import Ball, Norm
from voxward.core.model import Inputs, Values


def onto_plane(ball: Ball, x: Inputs, normal: Inputs, rise: Values) -> Inputs:
    """The smallest d, in the ball's norm and units, with <normal, d> = rise and x + d in the box.

    Where the box does not reach the plane: the corner nearest to it, in the coordinates where `normal` is not 0.
    """
    toward = normal * rise.sign().view(-1, *(1,) * (x.ndim - 1))
    room = (torch.where(toward > 0, ball.high - x, x - ball.low) / ball.unit).clamp_min(0)
    moved = least_move((toward.abs() * ball.unit).flatten(1), room.flatten(1), rise.abs(), ball.norm)
    found: Tensor = moved.view(x.shape) * toward.sign() * ball.unit
    return found


def least_move(
    weight: Float[Tensor, "b n"], room: Float[Tensor, "b n"], rise: Values, norm: Norm
) -> Float[Tensor, "b n"]:
    """The smallest m with sum(weight * m) = rise and 0 <= m <= room (m = room where that sum stays below rise).

    weight, room, rise: not negative. The solution is m = min(t * v, room), v = 1 (l_inf) or weight (l2), with one t
    per row; the sum is concave and piecewise linear in t, so Newton's steps from t = 0 rise to the root and reach it
    exactly after finitely many (usually < 10), without a sort.
    """
    v = torch.ones_like(weight) if norm == "linf" else weight
    stop = torch.where(weight > 0, room / v.clamp_min(torch.finfo(v.dtype).tiny), torch.zeros_like(room))
    t = torch.zeros_like(rise)
    while True:
        free = stop > t[:, None]
        slope = (weight * v * free).sum(1, dtype=torch.float64)
        fixed = (weight * room * ~free).sum(1, dtype=torch.float64)
        step = ((rise.double() - fixed) / slope).to(t.dtype)  # inf or NaN where nothing is free: out of reach
        rises = (slope > 0) & (step > t)
        if not bool(rises.any()):
            return torch.minimum(torch.where(slope > 0, t, torch.inf)[:, None] * v, room).nan_to_num(0.0)
        t = torch.where(rises, step, t)
