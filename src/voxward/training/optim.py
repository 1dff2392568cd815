"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from voxward.core.recipe import Choice
from voxward.core.registry import Registry

OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry(
    "optimizer", {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
)


def create_optimizer(choice: Choice, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser over all parameters of `network`. Raises ValueError for an unknown name or option."""
    build = OPTIMIZERS[choice.name]
    try:
        return build(network.parameters(), **choice.options)
    except TypeError as error:
        raise ValueError(f"optimizer {choice.name!r}: {error}") from error
