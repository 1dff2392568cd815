"""Deep supervision: the auxiliary outputs of a network learn together with the main one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from voxward.core.errors import UserError
from voxward.losses.types import Loss, Outputs, SupervisedLoss


def supervised(loss: Loss, weights: Sequence[float]) -> SupervisedLoss:
    """Extend a loss to networks with auxiliary outputs: the main loss plus each auxiliary one times its weight.

    This is equation 3 of ResDSN. Outside training mode a network gives its main logits alone, and then the loss is
    theirs. Auxiliary logits of a lower resolution are compared with the labels at the centres of their voxels.

    Args:
        loss: The loss of one output.
        weights: One weight per auxiliary output.

    Returns:
        A loss of all outputs. It raises UserError if the number of auxiliary outputs is not that of the weights.
    """

    def total(outputs: Outputs, labels: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):
            return loss(outputs, labels)
        main, *others = outputs
        if len(others) != len(weights):
            raise UserError(
                f"the network has {len(others)} auxiliary outputs: training.auxiliary must hold one weight for each, "
                f"got {list(weights)}"
            )
        value = loss(main, labels)
        for weight, logits in zip(weights, others, strict=True):
            value = value + weight * loss(logits, _at_size_of(logits, labels))
        return value

    return total


@torch.no_grad()
def loss_by_case(loss: SupervisedLoss, outputs: Outputs, labels: Tensor) -> Float[Tensor, " b"]:
    """Compute the loss of each sample of a batch by itself, from outputs that are there already, without a gradient.

    Args:
        loss: The loss.
        outputs: Logits (b, k, d, h, w), or these followed by auxiliary ones.
        labels: Class indices (b, d, h, w).

    Returns:
        One loss per sample (b).
    """
    count = len(labels)
    truths = labels.chunk(count)
    if isinstance(outputs, Tensor):
        return torch.stack([loss(logits, truth) for logits, truth in zip(outputs.chunk(count), truths, strict=True)])
    alone = zip(*(logits.chunk(count) for logits in outputs), strict=True)
    return torch.stack([loss(logits, truth) for logits, truth in zip(alone, truths, strict=True)])


def _at_size_of(logits: Tensor, labels: Tensor) -> Tensor:
    size = logits.shape[2:]
    if labels.shape[1:] == size:
        return labels
    return F.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].to(labels)
