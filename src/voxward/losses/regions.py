"""Losses of regions, which have one sigmoid each and may overlap; through MONAI."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from torch.nn import functional as F

from voxward.core.errors import UserError
from voxward.losses.annotated import LEAST_SMOOTH, binary_cross_entropy_over
from voxward.losses.types import MaskedLoss
from voxward.losses.whole import dice_loss


def region_dice(
    squared: bool = True, batch_dice: bool = True, smooth: float = 1.0, dice_weight: float = 1.0, ce_weight: float = 0.0
) -> MaskedLoss:
    """Create the loss 1 - soft Dice, the mean over the regions, plus a share of binary cross-entropy.

    Args:
        squared: Use p^2 and t^2 in the denominator (pipeline A of Henry et al., BraTS 2020, equation 2, with the factor
            2 that the equation lacks) instead of p and t (pipeline B).
        batch_dice: Compute the Dice over the whole batch at once, instead of per sample.
        smooth: What is added to numerator and denominator, at least 0.
        dice_weight: What the Dice term is multiplied by, at least 0.
        ce_weight: What the binary cross-entropy is multiplied by, at least 0.

    Returns:
        A loss of logits and masks, both (b, r, d, h, w), and of which voxels are annotated.

    Raises:
        UserError: A number is negative.
    """
    for name, value in (("smooth", smooth), ("dice_weight", dice_weight), ("ce_weight", ce_weight)):
        if not value >= 0:
            raise UserError(f"{name} must be at least 0, got {value}")
    dice = dice_loss(sigmoid=True, squared_pred=squared, batch=batch_dice, smooth_nr=smooth, smooth_dr=smooth)

    least = max(smooth, LEAST_SMOOTH)
    over = dice_loss(squared_pred=squared, batch=batch_dice, smooth_nr=least, smooth_dr=least)

    def loss(logits: Tensor, masks: Tensor, annotated: Tensor | None = None) -> Tensor:
        if annotated is not None:
            known, z, t = annotated[:, None], logits.float(), masks.float()
            value = dice_weight * cast(Tensor, over(z.sigmoid() * known, t * known))
            return value + ce_weight * binary_cross_entropy_over(z, t, annotated) if ce_weight else value
        value = dice_weight * cast(Tensor, dice(logits.float(), masks.float()))
        if ce_weight:
            value = value + ce_weight * F.binary_cross_entropy_with_logits(logits.float(), masks.float())
        return value

    return loss


def region_dice_ce(dice_weight: float = 1.0, ce_weight: float = 1.0, batch_dice: bool = False) -> MaskedLoss:
    """Create the counterpart of `dice-ce` for regions: plain soft Dice plus binary cross-entropy.

    Args:
        dice_weight: What the Dice term is multiplied by, at least 0.
        ce_weight: What the binary cross-entropy is multiplied by, at least 0.
        batch_dice: Compute the Dice over the whole batch at once, instead of per sample.

    Returns:
        A loss of logits and masks, both (b, r, d, h, w), and of which voxels are annotated.
    """
    return region_dice(False, batch_dice, 1e-5, dice_weight, ce_weight)


def region_ce() -> MaskedLoss:
    """Create the binary cross-entropy, the mean over voxels and regions.

    Returns:
        A loss of logits and masks, both (b, r, d, h, w), and of which voxels are annotated.
    """
    return region_dice(dice_weight=0.0, ce_weight=1.0)
