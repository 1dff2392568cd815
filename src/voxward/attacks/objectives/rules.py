"""The value of each voxel in the objectives that are a mean over the voxels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from voxward.core.errors import UserError

VoxelRule = Callable[[Tensor, Tensor, float], Tensor]
"""(logits, ground truth, progress) -> one value per voxel, (b, *spatial), or (b, r, *spatial) for regions."""


def nll(z: Tensor, y: Tensor) -> Tensor:
    """Compute -ln of the true class's probability, per voxel.

    Args:
        z: Logits (b, k, *spatial).
        y: The ground truth.
    """
    if y.ndim == z.ndim:
        return F.binary_cross_entropy_with_logits(z, y.to(z), reduction="none")
    return F.cross_entropy(z, y, reduction="none")


def margin(z: Tensor, y: Tensor) -> Tensor:
    """Compute the greatest other logit minus the true class's one, per voxel; it is positive where the voxel is wrong.

    For a region it is -(2t - 1) z.

    Args:
        z: Logits (b, k, *spatial).
        y: The ground truth.
    """
    if y.ndim == z.ndim:
        return (1 - 2 * y) * z
    truth = y[:, None]
    return z.scatter(1, truth, -torch.inf).amax(1) - z.gather(1, truth)[:, 0]


def correct(z: Tensor, y: Tensor) -> Tensor:
    """Return 1 where the mask (argmax, or z > 0) agrees with the ground truth, and 0 elsewhere.

    Args:
        z: Logits (b, k, *spatial).
        y: The ground truth.
    """
    return ((z > 0) == (y == 1) if y.ndim == z.ndim else z.max(1).indices == y).to(z)


def cross_entropy(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Compute the cross-entropy -ln p_y, per voxel."""
    return nll(z, y)


def masked_cross_entropy(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Compute the cross-entropy of the voxels that are still correct, 0 elsewhere (SEA, arXiv 2306.12941)."""
    return correct(z, y) * nll(z, y)


def dlr(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Compute the difference of logits ratio, per voxel; for regions the margin.

    It is -(z_y - max other) / (z_(1) - z_(3)) (Croce and Hein 2020, equation 6).

    Raises:
        UserError: There are fewer than three classes, for which the ratio would be the constant +-1.
    """
    if y.ndim == z.ndim:
        return margin(z, y)
    if z.shape[1] < 3:
        raise UserError(f"objective 'dlr' needs at least 3 classes, got {z.shape[1]}: use 'margin'")
    third = z.amin(1) if z.shape[1] == 3 else z.topk(3, dim=1).values[:, 2]
    spread = z.amax(1) - third
    # A tie of the first three (bfloat16 has them) must not outweigh all other voxels.
    return margin(z, y) / torch.where(spread > 1e-6, spread, torch.ones_like(spread))


def margin_loss(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Compute the margin, per voxel; see `margin`."""
    return margin(z, y)


def jensen_shannon(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Compute the Jensen-Shannon divergence of prediction and one-hot ground truth, 0 to ln 2, per voxel (SEA).

    Summed over the classes, only p = p_y is left: ln 2 + (p ln p - (1 + p) ln(1 + p)) / 2.
    """
    n = nll(z, y)
    p = (-n).exp()
    return math.log(2) - (p * n + (1 + p) * p.log1p()) / 2


def mask_norm(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Compute -z_y / ||z|| where the voxel is correct, and 0 elsewhere (SEA).

    For regions the divisor is ||(z, 1)|| over all regions, because the norm of a lone logit would leave only its sign.
    """
    if y.ndim == z.ndim:
        return correct(z, y) * margin(z, y) / (1 + z.square().sum(1, keepdim=True)).sqrt()
    length = z.square().sum(1).clamp_min(1e-12).sqrt()
    return -correct(z, y) * z.gather(1, y[:, None])[:, 0] / length


def tsallis(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Compute the Tsallis cross-entropy (1 - p_y^(1 - q)) / (1 - q), per voxel, with q from -2 to 1 in progress.

    Its gradient is that of the cross-entropy weighted by p_y^(1 - q). So an attack begins with the voxels that are
    surely correct and ends with the cross-entropy, to which the loss tends as q goes to 1 (arXiv 2605.03405).

    Args:
        z: Logits (b, k, *spatial).
        y: The ground truth.
        progress: The share of the attack's steps that are done, 0 to 1: q is 3 progress - 2.
    """
    n, power = nll(z, y), 3 * (1 - progress)  # 1 - q
    return -(-power * n).expm1() / power if power > 0 else n


def segpgd(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Compute SegPGD's loss, per voxel: (1 - l) CE where the voxel is correct, l CE where it is wrong.

    The weight is l = (t - 1) / 2T in step t of T (Gu et al. 2022, equations 4 and 6).
    """
    share, right = progress / 2, correct(z, y)
    return ((1 - share) * right + share * (1 - right)) * nll(z, y)


def cospgd(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Compute CosPGD's loss, per voxel: the cross-entropy times the cosine of prediction and one-hot ground truth.

    No gradient flows through the cosine (Agnihotri et al. 2024).
    """
    n = nll(z, y)
    with torch.no_grad():
        p = (-n).exp()
        regions = y.ndim == z.ndim
        length = torch.hypot(p, 1 - p) if regions else z.softmax(1).square().sum(1).sqrt()
        cosine = p / length
    return cosine * n
