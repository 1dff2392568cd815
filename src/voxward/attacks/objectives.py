"""What gradient attacks maximise: losses over voxels that rise as a segmentation gets worse.

Every objective reads a softmax head (target (b, *spatial), class indices) and a region head (target (b, r, *spatial),
0 or 1), in two or three spatial axes. Of a region, the truth's probability is p where t = 1 and 1 - p where t = 0; its
cross-entropy is the binary one, its margin -(2t - 1) z, and a voxel is correct when (z > 0) == t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Head, Objective, Scores, Truth, Values
from voxward.core.registry import Registry

Weights = tuple[float, ...] | None
"""Per class, the background included, or per region; None: 1 each."""

Loss = Callable[[Scores, Truth, float], Values]
"""(logits, target, progress) -> value per case; progress in [0, 1] is the share of the attack's steps already done."""

VoxelRule = Callable[[Tensor, Tensor, float], Tensor]
"""(logits, target, progress) -> (b, *spatial), or (b, r, *spatial) for regions."""


@dataclass(frozen=True)
class VoxelLoss:
    """The mean over voxels (and regions) of `rule`, weighted by the class of the truth (or by the region).

    Raises ValueError for weights that are not finite, not >= 0, all 0, or not one per class (region).
    """

    rule: VoxelRule
    class_weights: Weights = None

    def __post_init__(self) -> None:
        _check_weights(self.class_weights)

    def __call__(self, logits: Scores, target: Truth, progress: float) -> Values:
        """See Loss."""
        z, y = _wide(logits), target.long()
        values = self.rule(z, y, progress).flatten(1)
        weights = self.weigh(z, y)
        if weights is None:
            return values.mean(1)
        weights = weights.flatten(1)
        return (weights * values).sum(1) / weights.sum(1).clamp_min(1e-30)

    def weigh(self, z: Tensor, y: Tensor) -> Tensor | None:
        """The weight of each value of `rule`; None: all the same."""
        if self.class_weights is None:
            return None
        weights = _weights(self.class_weights, z)
        if y.ndim < z.ndim:
            return weights[y]
        return weights.view(-1, *(1,) * (z.ndim - 2)).expand(z.shape)


@dataclass(frozen=True)
class BalancedLoss(VoxelLoss):
    """Weights 1 / N of the case's own target where none are given (N voxels of the class, or of the region's 0 or 1).

    With given weights (1 / N_class of the training set) it is the plain weighted mean.
    """

    def weigh(self, z: Tensor, y: Tensor) -> Tensor | None:
        """See VoxelLoss."""
        if self.class_weights is not None:
            return super().weigh(z, y)
        if y.ndim == z.ndim:
            inside = y.flatten(2).to(z).mean(2).view(*y.shape[:2], *(1,) * (y.ndim - 2))
            return 1 / torch.where(y == 1, inside, 1 - inside)
        rows = torch.stack([case.bincount(minlength=z.shape[1]) for case in y.flatten(1)])
        # A class that is absent is never looked up; 1 keeps its weight finite.
        return (1 / rows.clamp_min(1).to(z)).gather(1, y.flatten(1))


@dataclass(frozen=True)
class SoftDiceLoss:
    """1 - soft Dice, the mean over the foreground classes (regions) in the target; couples all voxels of a case.

    2 sum(p t) / (sum p + sum t) without smoothing. A case whose target is empty is driven to predict anything:
    1 - 1 / (1 + sum p), the mean over all foreground classes.
    """

    class_weights: Weights = None

    def __post_init__(self) -> None:
        _check_weights(self.class_weights)

    def __call__(self, logits: Scores, target: Truth, progress: float) -> Values:
        """See Loss."""
        z, y = _wide(logits), target.long()
        if y.ndim == z.ndim:
            p, t, first = z.sigmoid(), y.to(z), 0
        else:
            classes = torch.arange(1, z.shape[1], device=z.device).view(-1, *(1,) * (y.ndim - 1))
            p, t, first = z.softmax(1)[:, 1:], (y[:, None] == classes).to(z), 1
        size = t.flatten(2).sum(2)
        absent = (size == 0).to(z)
        dice = (2 * (p * t).flatten(2).sum(2) + absent) / (p.flatten(2).sum(2) + size + absent)
        weights = torch.where(absent.all(1, keepdim=True), absent, 1 - absent)
        if self.class_weights is not None:
            weights = weights * _weights(self.class_weights, z)[first:]
        return (weights * (1 - dice)).sum(1) / weights.sum(1).clamp_min(1e-30)


def nll(z: Tensor, y: Tensor) -> Tensor:
    """-ln of the truth's probability."""
    if y.ndim == z.ndim:
        return F.binary_cross_entropy_with_logits(z, y.to(z), reduction="none")
    return F.cross_entropy(z, y, reduction="none")


def margin(z: Tensor, y: Tensor) -> Tensor:
    """The greatest other z_j, minus z_y; of a region, -(2t - 1) z. Positive where the voxel is wrong."""
    if y.ndim == z.ndim:
        return (1 - 2 * y) * z
    truth = y[:, None]
    return z.scatter(1, truth, -torch.inf).amax(1) - z.gather(1, truth)[:, 0]


def correct(z: Tensor, y: Tensor) -> Tensor:
    """1 where the mask (argmax, or z > 0) is the truth, else 0."""
    return ((z > 0) == (y == 1) if y.ndim == z.ndim else z.max(1).indices == y).to(z)


def cross_entropy(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """-ln p_y."""
    return nll(z, y)


def masked_cross_entropy(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Cross-entropy of the voxels that are still correct (SEA, 2306.12941)."""
    return correct(z, y) * nll(z, y)


def dlr(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """-(z_y - max other) / (z_(1) - z_(3)) (Croce & Hein 2020, eq. 6); for regions the margin.

    Raises ValueError for fewer than three classes, where the ratio would be the constant +-1.
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
    """See `margin`."""
    return margin(z, y)


def jensen_shannon(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """Divergence of the prediction from the one-hot truth (SEA), 0 to ln 2.

    Summed over the classes only p = p_y is left: ln 2 + (p ln p - (1 + p) ln(1 + p)) / 2.
    """
    n = nll(z, y)
    p = (-n).exp()
    return math.log(2) - (p * n + (1 + p) * p.log1p()) / 2


def mask_norm(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """-z_y / ||z|| where the voxel is correct, else 0 (SEA).

    Regions are divided by ||(z, 1)|| over all regions: the norm of a lone logit would leave only its sign.
    """
    if y.ndim == z.ndim:
        return correct(z, y) * margin(z, y) / (1 + z.square().sum(1, keepdim=True)).sqrt()
    length = z.square().sum(1).clamp_min(1e-12).sqrt()
    return -correct(z, y) * z.gather(1, y[:, None])[:, 0] / length


def tsallis(z: Tensor, y: Tensor, progress: float, q: float = 0.5) -> Tensor:
    """(1 - p_y^(1 - q)) / (1 - q): its gradient is that of the cross-entropy, weighted by p_y^(1 - q). Bounded."""
    return -((q - 1) * nll(z, y)).expm1() / (1 - q)


def segpgd(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """(1 - l) CE where correct, l CE where wrong; l = (t - 1) / 2T in step t of T (Gu et al. 2022, eq. 4 and 6)."""
    share, right = progress / 2, correct(z, y)
    return ((1 - share) * right + share * (1 - right)) * nll(z, y)


def cospgd(z: Tensor, y: Tensor, progress: float) -> Tensor:
    """CE times the cosine of the prediction and the one-hot truth, without its gradient (Agnihotri et al. 2024)."""
    n = nll(z, y)
    with torch.no_grad():
        p = (-n).exp()
        regions = y.ndim == z.ndim
        length = torch.hypot(p, 1 - p) if regions else z.softmax(1).square().sum(1).sqrt()
        cosine = p / length
    return cosine * n


@dataclass(frozen=True)
class ObjectiveEntry:
    """x."""

    build: Callable[[Weights], Loss]
    summary: str


def _voxels(rule: VoxelRule, summary: str) -> ObjectiveEntry:
    return ObjectiveEntry(partial(VoxelLoss, rule), summary)


OBJECTIVES: Registry[ObjectiveEntry] = Registry(
    "objective",
    {
        "ce": _voxels(cross_entropy, "the cross-entropy"),
        "masked-ce": _voxels(masked_cross_entropy, "the cross-entropy of the voxels that are still correct"),
        "balanced-ce": ObjectiveEntry(
            partial(BalancedLoss, masked_cross_entropy),
            "the cross-entropy of the voxels that are still correct, every class weighing the same",
        ),
        "dlr": _voxels(dlr, "the difference of logits ratio (DLR), which needs three classes"),
        "margin": _voxels(margin_loss, "the margin of the best wrong class over the true one"),
        "dice": ObjectiveEntry(SoftDiceLoss, "one minus the soft Dice"),
        "jsd": _voxels(jensen_shannon, "the Jensen-Shannon divergence from the ground truth"),
        "mask-norm": _voxels(mask_norm, "minus the normalised true logit of the voxels that are still correct"),
        "tsallis": _voxels(tsallis, "the Tsallis cross-entropy, which is bounded"),
        "segpgd": _voxels(segpgd, "a cross-entropy whose weight moves from the correct to the wrong voxels"),
        "cospgd": _voxels(cospgd, "the cross-entropy, weighted by how well each voxel is still predicted"),
    },
)


def create_objective(name: str, class_weights: Weights = None) -> Loss:
    """X."""
    return OBJECTIVES[name].build(class_weights)


def describe() -> dict[str, str]:
    """X."""
    return {name: entry.summary for name, entry in OBJECTIVES.items()}


def at(loss: Loss, progress: float) -> Objective:
    """The loss at one moment of an attack."""
    return lambda logits, target: loss(logits, target, progress)


def check_objective(loss: Loss, head: Head, classes: int) -> None:
    """Raise ValueError when the loss does not fit a head of so many classes (regions), by trying it on one voxel."""
    logits = torch.zeros(1, classes, 1, 1)
    loss(logits, torch.zeros_like(logits if head == "regions" else logits[:, 0], dtype=torch.long), 0.0)


def _wide(logits: Tensor) -> Tensor:
    """Half precision is accumulated in float32."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _check_weights(weights: Weights) -> None:
    if weights is not None and not (all(math.isfinite(w) and w >= 0 for w in weights) and sum(weights) > 0):
        raise UserError(f"class_weights must be finite, at least 0 and not all 0, got {weights}")


def _weights(weights: tuple[float, ...], z: Tensor) -> Tensor:
    if len(weights) != z.shape[1]:
        raise UserError(f"class_weights must be one per class or region ({z.shape[1]}), got {len(weights)}")
    return torch.tensor(weights, dtype=z.dtype, device=z.device)
