"""The nearest point of a plane inside a box, in the l_inf and the l2 norm."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.attacks.threat import Ball, Norm
from voxward.core.devices import wide, wide_type
from voxward.core.model import Inputs, Values


def onto_plane(ball: Ball, x: Inputs, normal: Inputs, rise: Values) -> Inputs:
    """Find the smallest move onto a plane that stays in the box of legal intensities.

    Args:
        ball: The norm, the unit and the box.
        x: The point to move (b, c, *spatial), in the box.
        normal: The plane's normal (b, c, *spatial).
        rise: The wanted scalar product of the normal and the move, per case (b).

    Returns:
        The smallest d, in the ball's norm and unit, with <normal, d> = rise and x + d in the box. Where the box does
        not reach the plane: the move to the corner nearest to it, in the coordinates where `normal` is not 0.
    """
    toward = normal * rise.sign().view(-1, *(1,) * (x.ndim - 1))
    room = (torch.where(toward > 0, ball.high - x, x - ball.low) / ball.unit).clamp_min(0)
    moved = least_move((toward.abs() * ball.unit).flatten(1), room.flatten(1), rise.abs(), ball.norm)
    found: Tensor = moved.view(x.shape) * toward.sign() * ball.unit
    return found


def least_move(
    weight: Float[Tensor, "b n"], room: Float[Tensor, "b n"], rise: Values, norm: Norm
) -> Float[Tensor, "b n"]:
    """Find the smallest m with sum(weight * m) = rise and 0 <= m <= room.

    The solution is m = min(t * v, room) with v = 1 (l_inf) or v = weight (l2) and one t per row. The sum is concave and
    piecewise linear in t, so Newton's steps from t = 0 rise to the root and reach it exactly after finitely many steps
    (usually fewer than 10), without a sort.

    Args:
        weight: Weights (b, n), not negative.
        room: The greatest legal m (b, n), not negative.
        rise: The wanted sum (b), not negative.
        norm: The norm that is smallest, `linf` or `l2`.

    Returns:
        The solution (b, n); it is `room` where even that sum stays below `rise`.
    """
    v = torch.ones_like(weight) if norm == "linf" else weight
    stop = torch.where(weight > 0, room / v.clamp_min(torch.finfo(v.dtype).tiny), torch.zeros_like(room))
    t = torch.zeros_like(rise)
    while True:
        free = stop > t[:, None]
        slope = (weight * v * free).sum(1, dtype=wide_type(weight))
        fixed = (weight * room * ~free).sum(1, dtype=wide_type(weight))
        step = ((wide(rise) - fixed) / slope).to(t.dtype)  # not finite where the plane is out of reach
        rises = (slope > 0) & (step > t)
        if not bool(rises.any()):
            return torch.minimum(torch.where(slope > 0, t, torch.inf)[:, None] * v, room).nan_to_num(0.0)
        t = torch.where(rises, step, t)
