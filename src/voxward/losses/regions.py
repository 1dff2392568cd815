"""Losses of nested regions, one sigmoid each, that may overlap; through MONAI."""

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
    """1 - soft Dice, the mean over the regions, plus `ce_weight` times the binary cross-entropy.

    The loss takes logits and masks (b, r, d, h, w). squared: p^2 and t^2 in the denominator (pipeline A of Henry et
    al., BraTS 2020, eq. 2, with the factor 2 that the equation lacks), or p and t (B). batch_dice: over the whole batch
    at once, or per sample. smooth: added to numerator and denominator. Raises ValueError for negative numbers.
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
    """What `dice-ce` is for regions: plain soft Dice plus binary cross-entropy."""
    return region_dice(False, batch_dice, 1e-5, dice_weight, ce_weight)


def region_ce() -> Loss:
    """The binary cross-entropy, the mean over voxels and regions."""
    return region_dice(dice_weight=0.0, ce_weight=1.0)


def of_classes(loss: Loss, labels: LabelSet) -> Loss:
    """A loss of masks as one of class indices (b, d, h, w)."""
    nested = labels.nested

    def on_masks(logits: Tensor, index: Tensor) -> Tensor:
        return loss(logits, nested.to_masks(index))

    return on_masks
