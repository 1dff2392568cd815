"""Plain cross-entropy, with which most of the published 3D networks were trained."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from voxward.losses.annotated import cross_entropy_over
from voxward.losses.types import MaskedLoss


def cross_entropy() -> MaskedLoss:
    """Create the cross-entropy loss: the mean over all annotated voxels of -ln of the true class's probability.

    Returns:
        A loss of logits (b, k, d, h, w), class indices (b, d, h, w), and which voxels are annotated.
    """

    def ce(logits: Tensor, labels: Tensor, annotated: Tensor | None = None) -> Tensor:
        if annotated is not None:
            return cross_entropy_over(logits.float(), labels.long(), annotated)
        return F.cross_entropy(logits.float(), labels.long())

    return ce
