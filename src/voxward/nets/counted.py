"""How large a network is, before memory is taken for it: a few lines of a file can describe one of any size."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from voxward.core.errors import UserError

_MAKERS = frozenset((torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn))
"""What parameters and buffers are made by. Other tensors, such as a `linspace`, are small, and are looked into."""

# What fills parameters with random numbers. Tensors without numbers need none, and PyTorch would import its compiler to
# draw them, which takes seconds.
_FILLERS = frozenset((torch.Tensor.normal_, torch.Tensor.uniform_))

# The numbers of networks that were counted in this process.
_COUNTED: dict[Hashable, int] = {}


class _WithoutMemory(TorchFunctionMode):
    """New tensors of any size have a shape and no numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _MAKERS and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        if func in _FILLERS and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


def refuse_larger(build: Callable[[], nn.Module], weights: Path, key: Hashable = None) -> None:
    """Refuse a network that has more numbers than the file of its weights has bytes.

    Args:
        build: Makes the network.
        weights: The file.
        key: What the network is made from, so that it is not counted again for another file; None counts it each time.

    Raises:
        UserError: The file is smaller than any weights of this network.
    """
    held, claimed = weights.stat().st_size, _COUNTED.get(key)
    if claimed is None:
        claimed = numbers_of(build)
        if key is not None:
            _COUNTED[key] = claimed
    if claimed > held:
        raise UserError(
            f"{weights} has {held} bytes, and the network that stands beside it would have {claimed} numbers: they do "
            "not belong together"
        )


def numbers_of(build: Callable[[], nn.Module]) -> int:
    """Return how many numbers the parameters and buffers of a network have, each once.

    Args:
        build: Makes the network.
    """
    with _WithoutMemory():
        network = build()
    return sum(value.numel() for value in (*network.parameters(), *network.buffers()))
