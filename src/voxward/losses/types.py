"""The types of losses."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of logits (b, k, d, h, w) and class indices (b, d, h, w) that returns one value."""

Outputs = Tensor | tuple[Tensor, ...]
"""A network's outputs: logits (b, k, d, h, w), or these followed by auxiliary ones of the same or lower resolution."""

SupervisedLoss = Callable[[Outputs, Tensor], Tensor]
"""A loss that also takes the outputs of a network with deep supervision."""
