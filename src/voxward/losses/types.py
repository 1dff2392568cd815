"""What a loss is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of logits (b, k, d, h, w) and class indices (b, d, h, w): one value."""

Outputs = Tensor | tuple[Tensor, ...]
"""Logits (b, k, d, h, w), or these followed by auxiliary ones, at the same or lower resolutions."""

SupervisedLoss = Callable[[Outputs, Tensor], Tensor]
"""A loss that also takes the outputs of a network with deep supervision."""
