"""A 2D network on volumes: each slice across the last axis by itself."""

from __future__ import annotations

from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.types import Images, Logits


class Slicewise(nn.Module):
    """`network` maps slices (n, c, d, h) to logits (n, k, d, h)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Images) -> Logits:
        """(b, c, d, h, w) -> logits (b, k, d, h, w). Raises ValueError for images without three spatial axes."""
        if images.ndim != 5:
            raise UserError(f"images must be (b, c, d, h, w), got shape {tuple(images.shape)}")
        b, c, d, h, w = images.shape
        logits: Tensor = self.network(images.movedim(-1, 1).reshape(b * w, c, d, h))
        return logits.reshape(b, w, -1, d, h).movedim(1, -1)
