"""Dice plus cross-entropy, through MONAI."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from voxward.losses.annotated import cross_entropy_over
from voxward.losses.types import MaskedLoss
from voxward.losses.whole import dice_loss


def dice_cross_entropy(dice_weight: float = 1.0, ce_weight: float = 1.0, batch_dice: bool = False) -> MaskedLoss:
    """Create the sum of cross-entropy and (1 - soft Dice averaged over the foreground classes).

    A class that is absent from a patch adds a constant with almost no gradient, as in ROG.

    Args:
        dice_weight: What the Dice term is multiplied by.
        ce_weight: What the cross-entropy is multiplied by.
        batch_dice: Compute the Dice over the whole batch at once, instead of per sample.

    Returns:
        A loss of logits (b, k, d, h, w), class indices (b, d, h, w), and which voxels are annotated.
    """
    from monai.losses import DiceCELoss

    loss = DiceCELoss(lambda_dice=dice_weight, lambda_ce=ce_weight)
    loss.dice = dice_loss(include_background=False, to_onehot_y=True, softmax=True, batch=batch_dice)
    dice = dice_loss(batch=batch_dice)

    def over(logits: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
        classes = torch.arange(1, logits.shape[1], device=logits.device).view(-1, 1, 1, 1)
        # The masks are applied to the probabilities: MONAI's MaskedDiceLoss applies them to logits, and a logit of 0 is
        # a probability.
        known = annotated[:, None]
        p, t = logits.softmax(1)[:, 1:] * known, (labels[:, None] == classes) & known
        value = cast(Tensor, dice(p, t.float()))
        return dice_weight * value + ce_weight * cross_entropy_over(logits, labels, annotated)

    def dice_ce(logits: Tensor, labels: Tensor, annotated: Tensor | None = None) -> Tensor:
        if annotated is not None:
            return over(logits.float(), labels.long(), annotated)
        return cast(Tensor, loss(logits.float(), labels[:, None].long()))

    return dice_ce
