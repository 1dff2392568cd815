"""Losses of regions, which have one sigmoid each and may overlap; through MONAI."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from torch.nn import functional as F

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.losses.types import Loss


def region_dice(
    squared: bool = True, batch_dice: bool = True, smooth: float = 1.0, dice_weight: float = 1.0, ce_weight: float = 0.0
) -> Loss:
    """Create the loss 1 - soft Dice, the mean over the regions, plus a share of binary cross-entropy.

    Args:
        squared: Use p^2 and t^2 in the denominator (pipeline A of Henry et al., BraTS 2020, equation 2, with the factor
            2 that the equation lacks) instead of p and t (pipeline B).
        batch_dice: Compute the Dice over the whole batch at once, instead of per sample.
        smooth: What is added to numerator and denominator, at least 0.
        dice_weight: What the Dice term is multiplied by, at least 0.
        ce_weight: What the binary cross-entropy is multiplied by, at least 0.

    Returns:
        A loss of logits and masks, both (b, r, d, h, w).

    Raises:
        UserError: A number is negative.
    """
    from monai.losses import DiceLoss

    for name, value in (("smooth", smooth), ("dice_weight", dice_weight), ("ce_weight", ce_weight)):
        if not value >= 0:
            raise UserError(f"{name} must be at least 0, got {value}")
    dice = DiceLoss(sigmoid=True, squared_pred=squared, batch=batch_dice, smooth_nr=smooth, smooth_dr=smooth)

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        value = dice_weight * cast(Tensor, dice(logits.float(), masks.float()))
        if ce_weight:
            value = value + ce_weight * F.binary_cross_entropy_with_logits(logits.float(), masks.float())
        return value

    return loss


def region_dice_ce(dice_weight: float = 1.0, ce_weight: float = 1.0, batch_dice: bool = False) -> Loss:
    """Create the counterpart of `dice-ce` for regions: plain soft Dice plus binary cross-entropy.

    Args:
        dice_weight: What the Dice term is multiplied by, at least 0.
        ce_weight: What the binary cross-entropy is multiplied by, at least 0.
        batch_dice: Compute the Dice over the whole batch at once, instead of per sample.

    Returns:
        A loss of logits and masks, both (b, r, d, h, w).
    """
    return region_dice(False, batch_dice, 1e-5, dice_weight, ce_weight)


def region_ce() -> Loss:
    """Create the binary cross-entropy, the mean over voxels and regions.

    Returns:
        A loss of logits and masks, both (b, r, d, h, w).
    """
    return region_dice(dice_weight=0.0, ce_weight=1.0)


def of_classes(loss: Loss, labels: LabelSet) -> Loss:
    """Turn a loss of masks into a loss of class indices.

    Args:
        loss: A loss of logits and masks, both (b, r, d, h, w).
        labels: The labels, whose regions the masks are made of.

    Returns:
        A loss of logits (b, r, d, h, w) and class indices (b, d, h, w).
    """
    maps = labels.region_maps

    def on_masks(logits: Tensor, index: Tensor) -> Tensor:
        return loss(logits, maps.to_masks(index))

    return on_masks
