"""Plain cross-entropy, as most of the published 3D networks were trained with."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from voxward.losses.types import Loss


def cross_entropy() -> Loss:
    """The mean over all voxels of -ln of the truth's probability."""

    def ce(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels.long())

    return ce
