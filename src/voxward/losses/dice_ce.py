"""Dice plus cross-entropy, through MONAI."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from voxward.losses.types import Loss


def dice_cross_entropy(dice_weight: float = 1.0, ce_weight: float = 1.0, batch_dice: bool = False) -> Loss:
    """Create the sum of cross-entropy and (1 - soft Dice averaged over the foreground classes).

    A class that is absent from a patch adds a constant with almost no gradient, as in ROG.

    Args:
        dice_weight: What the Dice term is multiplied by.
        ce_weight: What the cross-entropy is multiplied by.
        batch_dice: Compute the Dice over the whole batch at once, instead of per sample.

    Returns:
        A loss of logits (b, k, d, h, w) and class indices (b, d, h, w).
    """
    from monai.losses import DiceCELoss

    loss = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=batch_dice,
        lambda_dice=dice_weight,
        lambda_ce=ce_weight,
    )

    def dice_ce(logits: Tensor, labels: Tensor) -> Tensor:
        return cast(Tensor, loss(logits.float(), labels[:, None].long()))

    return dice_ce
