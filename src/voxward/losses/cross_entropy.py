"""Plain cross-entropy, with which most of the published 3D networks were trained."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from voxward.losses.types import Loss


def cross_entropy() -> Loss:
    """Create the cross-entropy loss: the mean over all voxels of -ln of the true class's probability.

    Returns:
        A loss of logits (b, k, d, h, w) and class indices (b, d, h, w).
    """

    def ce(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels.long())

    return ce
