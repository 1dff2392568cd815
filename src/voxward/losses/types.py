"""The types of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of logits (b, k, d, h, w) and class indices (b, d, h, w) that returns one value."""


@runtime_checkable
class MaskedLoss(Protocol):
    """A loss that knows which voxels are annotated: what is registered under the name of a loss."""

    def __call__(self, logits: Tensor, truth: Tensor, annotated: Tensor | None = None, /) -> Tensor:
        """Compute the loss.

        Args:
            logits: Logits (b, k, d, h, w).
            truth: Class indices (b, d, h, w), or for regions their masks (b, k, d, h, w).
            annotated: Which voxels are annotated (b, d, h, w); None for all. The others must change nothing. Without
                any annotated voxel the loss is 0, and so is its gradient.
        """
        ...


Outputs = Tensor | tuple[Tensor, ...]
"""A network's outputs: logits (b, k, d, h, w), or these followed by auxiliary ones of the same or lower resolution."""

SupervisedLoss = Callable[[Outputs, Tensor], Tensor]
"""A loss that also takes the outputs of a network with deep supervision."""
