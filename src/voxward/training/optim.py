"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module

import torch

from voxward.core.errors import MissingPackageError, UserError
from voxward.core.recipe import Choice
from voxward.core.registry import Registry


def _ranger(
    parameters: Iterable[torch.nn.Parameter],
    lr: float = 1e-3,
    betas: Sequence[float] = (0.95, 0.999),
    eps: float = 1e-5,
    weight_decay: float = 0.0,
    k: int = 6,
    alpha: float = 0.5,
) -> torch.optim.Optimizer:
    """Ranger: rectified Adam, gradient centralisation and lookahead (slow weights, every k steps, by alpha).

    While the variance of the gradients is not known yet it takes plain momentum steps, as its author's version 20.4.11
    does and the package by default does not. Raises ImportError without the package. The options are written out
    because the package takes unknown ones in silence.
    """
    try:
        package = import_module("pytorch_optimizer")
    except ImportError as error:
        raise MissingPackageError(
            "optimizer 'ranger' needs pytorch_optimizer: pip install 'voxward[ranger]'"
        ) from error
    optimizer: torch.optim.Optimizer = package.Ranger(
        parameters, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, k=k, alpha=alpha,
        degenerated_to_sgd=True,
    )  # fmt: skip
    return optimizer


OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry(
    "optimizer",
    {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "ranger": _ranger, "sgd": torch.optim.SGD},
)


def create_optimizer(choice: Choice, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser over all parameters of `network`. Raises ValueError for an unknown name or option.

    Raises ImportError where an optimiser's package is not installed.
    """
    build = OPTIMIZERS[choice.name]
    try:
        return build(network.parameters(), **choice.options)
    except TypeError as error:
        raise UserError(f"optimizer {choice.name!r}: {error}") from error
