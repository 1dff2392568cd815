"""A 2D network on volumes, which it takes slice by slice across the last axis."""

from __future__ import annotations

from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.types import Images, Logits


class Slicewise(nn.Module):
    """Applies a network on slices to each slice of a volume.

    Args:
        network: A network from slices (n, c, d, h) to logits (n, k, d, h).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Images) -> Logits:
        """Compute the logits of a batch of volumes.

        Args:
            images: (b, c, d, h, w).

        Returns:
            Logits (b, k, d, h, w).

        Raises:
            UserError: The images do not have three spatial axes.
        """
        if images.ndim != 5:
            raise UserError(f"images must be (b, c, d, h, w), got shape {tuple(images.shape)}")
        b, c, d, h, w = images.shape
        logits: Tensor = self.network(images.movedim(-1, 1).reshape(b * w, c, d, h))
        return logits.reshape(b, w, -1, d, h).movedim(1, -1)
