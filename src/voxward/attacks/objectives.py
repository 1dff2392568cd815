"""What gradient attacks maximise: losses over voxels that rise as a segmentation gets worse.

Every objective reads a softmax head (the ground truth is class indices (b, *spatial)) and a region head (the ground
truth is 0 or 1 (b, r, *spatial)), in two or three spatial axes. For a region, the true class's probability is p where t
= 1 and 1 - p where t = 0; its cross-entropy is the binary one, its margin is -(2t - 1) z, and a voxel is correct if (z
> 0) == t. Voxels that are not annotated (see `core.model.Truth`) are left out of every sum and every mean.
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
from voxward.core.model import Head, Objective, Scores, Truth, Values, annotated_part
from voxward.core.registry import Registry

Weights = tuple[float, ...] | None
"""One weight per class, the background included, or per region; None: 1 each."""

Loss = Callable[[Scores, Truth, float], Values]
"""(logits, ground truth, progress) -> one value per case; progress, 0 to 1, is the share of the steps that are done."""

VoxelRule = Callable[[Tensor, Tensor, float], Tensor]
"""(logits, ground truth, progress) -> one value per voxel, (b, *spatial), or (b, r, *spatial) for regions."""


@dataclass(frozen=True)
class VoxelLoss:
    """The mean of a rule over the voxels (and regions), weighted by the true class (or by the region).

    Attributes:
        rule: The value of each voxel.
        class_weights: Weights of the classes or regions, finite, at least 0 and not all 0; None: 1 each.

    Raises:
        UserError: The weights are illegal or, when the loss is computed, not one per class or region.
    """

    rule: VoxelRule
    class_weights: Weights = None

    def __post_init__(self) -> None:
        _check_weights(self.class_weights)

    def __call__(self, logits: Scores, target: Truth, progress: float) -> Values:
        """Compute the loss.

        Args:
            logits: Logits (b, k, *spatial).
            target: The ground truth.
            progress: The share of the attack's steps that are done, 0 to 1.

        Returns:
            One value per case (b).
        """
        z, (y, known) = _wide(logits), annotated_part(target)
        values = self.rule(z, y, progress).flatten(1)
        weights = self.weigh(z, y, known)
        if weights is None and known is None:
            return values.mean(1)
        weights = torch.ones_like(values) if weights is None else weights.flatten(1)
        if known is not None:
            # Chosen, not multiplied: a weight or a value of unannotated voxels may be infinite.
            weights, values = weights.where(known.flatten(1), 0.0), values.where(known.flatten(1), 0.0)
        return (weights * values).sum(1) / weights.sum(1).clamp_min(1e-30)

    def weigh(self, z: Tensor, y: Tensor, known: Tensor | None = None) -> Tensor | None:
        """Return the weight of each value of the rule; None if all weigh the same.

        Args:
            z: Logits (b, k, *spatial), float32 or float64.
            y: The ground truth, int64, with background where it is not annotated.
            known: Which voxels are annotated, booleans of the shape of `y`; None: all. The weights of the others do not
                matter.
        """
        if self.class_weights is None:
            return None
        weights = _weights(self.class_weights, z)
        if y.ndim < z.ndim:
            return weights[y]
        return weights.view(-1, *(1,) * (z.ndim - 2)).expand(z.shape)


@dataclass(frozen=True)
class BalancedLoss(VoxelLoss):
    """A voxel loss in which every class (or each of a region's 0 and 1) weighs the same.

    Without `class_weights` the weight of a voxel is 1 / N, where N counts the voxels of its class, or of its 0 or 1 in
    that region, in the case's own ground truth. With given weights (1 / N_class of the training set) it is the plain
    weighted mean.

    Attributes:
        rule: The value of each voxel.
        class_weights: Weights of the classes or regions; None: from the case's own ground truth.
    """

    def weigh(self, z: Tensor, y: Tensor, known: Tensor | None = None) -> Tensor | None:
        """Return the weight of each value of the rule; see `VoxelLoss.weigh`."""
        if self.class_weights is not None:
            return super().weigh(z, y)
        if y.ndim == z.ndim:
            inside = y.flatten(2).to(z).mean(2)
            if known is not None:  # `y` is 0 elsewhere
                inside = y.flatten(2).to(z).sum(2) / known.flatten(2).sum(2).clamp_min(1)
            inside = inside.view(*y.shape[:2], *(1,) * (y.ndim - 2))
            return 1 / torch.where(y == 1, inside, 1 - inside)
        rows = torch.stack([case.bincount(minlength=z.shape[1]) for case in y.flatten(1)])
        if known is not None:
            rows[:, 0] -= (~known).flatten(1).sum(1)
        # No voxel has an absent class, so its weight is never used; 1 keeps it finite.
        return (1 / rows.clamp_min(1).to(z)).gather(1, y.flatten(1))


@dataclass(frozen=True)
class SoftDiceLoss:
    """One minus the soft Dice, the mean over the foreground classes (or regions) that are in the ground truth.

    It couples all voxels of a case. The soft Dice is 2 sum(p t) / (sum p + sum t), without smoothing. A case with empty
    ground truth is driven to predict anything: its value is 1 - 1 / (1 + sum p), the mean over all foreground classes.

    Attributes:
        class_weights: Weights of the classes or regions; None: 1 each.

    Raises:
        UserError: The weights are illegal or, when the loss is computed, not one per class or region.
    """

    class_weights: Weights = None

    def __post_init__(self) -> None:
        _check_weights(self.class_weights)

    def __call__(self, logits: Scores, target: Truth, progress: float) -> Values:
        """Compute the loss.

        Args:
            logits: Logits (b, k, *spatial).
            target: The ground truth.
            progress: Not used.

        Returns:
            One value per case (b).
        """
        z, (y, known) = _wide(logits), annotated_part(target)
        if y.ndim == z.ndim:
            p, t, first = z.sigmoid(), y.to(z), 0
        else:
            classes = torch.arange(1, z.shape[1], device=z.device).view(-1, *(1,) * (y.ndim - 1))
            p, t, first = z.softmax(1)[:, 1:], (y[:, None] == classes).to(z), 1
        if known is not None:
            p = p * (known if y.ndim == z.ndim else known[:, None])
        size = t.flatten(2).sum(2)
        absent = (size == 0).to(z)
        dice = (2 * (p * t).flatten(2).sum(2) + absent) / (p.flatten(2).sum(2) + size + absent)
        weights = torch.where(absent.all(1, keepdim=True), absent, 1 - absent)
        if self.class_weights is not None:
            weights = weights * _weights(self.class_weights, z)[first:]
        return (weights * (1 - dice)).sum(1) / weights.sum(1).clamp_min(1e-30)


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


def tsallis(z: Tensor, y: Tensor, progress: float, q: float = 0.5) -> Tensor:
    """Compute the Tsallis cross-entropy (1 - p_y^(1 - q)) / (1 - q), per voxel.

    Its gradient is that of the cross-entropy weighted by p_y^(1 - q), and it is bounded.

    Args:
        z: Logits (b, k, *spatial).
        y: The ground truth.
        progress: Not used.
        q: The exponent, below 1; towards 1 it becomes the cross-entropy.
    """
    return -((q - 1) * nll(z, y)).expm1() / (1 - q)


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


@dataclass(frozen=True)
class ObjectiveEntry:
    """A registered objective.

    Attributes:
        build: Makes the loss from the weights of the classes or regions.
        summary: What the loss is, in a few words.
        saturates: Whether its gradient vanishes where the softmax (or sigmoid) is sure of the true class.
        steady: Whether it is the same function in all steps of an attack.
    """

    build: Callable[[Weights], Loss]
    summary: str
    saturates: bool = True
    steady: bool = True


def _voxels(rule: VoxelRule, summary: str, saturates: bool = True, steady: bool = True) -> ObjectiveEntry:
    return ObjectiveEntry(partial(VoxelLoss, rule), summary, saturates, steady)


OBJECTIVES: Registry[ObjectiveEntry] = Registry(
    "objective",
    {
        "ce": _voxels(cross_entropy, "the cross-entropy"),
        "masked-ce": _voxels(masked_cross_entropy, "the cross-entropy of the voxels that are still correct"),
        "balanced-ce": ObjectiveEntry(
            partial(BalancedLoss, masked_cross_entropy),
            "the cross-entropy of the voxels that are still correct, every class weighing the same",
        ),
        "dlr": _voxels(dlr, "the difference of logits ratio (DLR), which needs three classes", saturates=False),
        "margin": _voxels(margin_loss, "the margin of the best wrong class over the true one", saturates=False),
        "dice": ObjectiveEntry(SoftDiceLoss, "one minus the soft Dice"),
        "jsd": _voxels(jensen_shannon, "the Jensen-Shannon divergence from the ground truth"),
        "mask-norm": _voxels(
            mask_norm, "minus the normalised true logit of the voxels that are still correct", saturates=False
        ),
        "tsallis": _voxels(tsallis, "the Tsallis cross-entropy, which is bounded"),
        "segpgd": _voxels(
            segpgd, "a cross-entropy whose weight moves from the correct to the wrong voxels", steady=False
        ),
        "cospgd": _voxels(cospgd, "the cross-entropy, weighted by how well each voxel is still predicted"),
    },
)


def create_objective(name: str, class_weights: Weights = None) -> Loss:
    """Create an objective by name.

    Args:
        name: A name in `OBJECTIVES`; `describe` says what each of them is.
        class_weights: Weights of the classes or regions, finite, at least 0 and not all 0; None: 1 each.

    Raises:
        UserError: The name is unknown, or the weights are illegal.
    """
    return OBJECTIVES[name].build(class_weights)


def describe() -> dict[str, str]:
    """Return what each objective is, in one line per name."""
    return {name: entry.summary for name, entry in OBJECTIVES.items()}


def at(loss: Loss, progress: float) -> Objective:
    """Return a loss at one moment of an attack.

    Args:
        loss: The loss.
        progress: The share of the attack's steps that are done, 0 to 1.
    """
    return lambda logits, target: loss(logits, target, progress)


def check_objective(loss: Loss, head: Head, classes: int) -> None:
    """Check that a loss works on a model, by trying it on one voxel.

    Args:
        loss: The loss.
        head: How the model's logits are read.
        classes: The model's number of classes or regions.

    Raises:
        UserError: The loss does not work on such a model.
    """
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
