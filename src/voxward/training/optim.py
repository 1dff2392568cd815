"""Every optimiser by its name in a recipe."""

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
    """Make Ranger: rectified Adam with gradient centralisation and lookahead.

    While the variance of the gradients is not known yet, it takes plain steps with momentum. The author's version
    20.4.11 does so, and the package by default does not. The options are written out here because the package accepts
    unknown ones without an error.

    Args:
        parameters: The parameters to move.
        lr: The learning rate.
        betas: The decay of the running means of the gradient and of its square.
        eps: The number that is added to the denominator.
        weight_decay: The factor of the weight decay.
        k: The number of steps between two moves of the slow weights.
        alpha: The share (0 to 1) by which the slow weights follow the fast ones.

    Raises:
        ImportError: The package `pytorch_optimizer` is not installed.
    """
    try:
        package = import_module("pytorch_optimizer")
    except ImportError as error:
        raise MissingPackageError(
            "optimizer 'ranger' needs pytorch_optimizer: pip install 'voxward[ranger]'"
        ) from error
    try:
        optimizer: torch.optim.Optimizer = package.Ranger(
            parameters, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, k=k, alpha=alpha,
            degenerated_to_sgd=True,
        )  # fmt: skip
    except Exception as error:  # what the package refuses has no kind of errors of its own
        raise UserError(f"optimizer 'ranger': {error}") from error
    return optimizer


OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry(
    "optimizer",
    {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "ranger": _ranger, "sgd": torch.optim.SGD},
)


def create_optimizer(choice: Choice, network: torch.nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser that a recipe names, over all parameters of a network.

    Args:
        choice: The name of the optimiser and its options.
        network: The network whose parameters are moved.

    Returns:
        A PyTorch optimiser.

    Raises:
        UserError: The name or an option is unknown, or an option has a wrong type.
        ImportError: The optimiser needs a package that is not installed.

    Example:
        >>> optimizer = create_optimizer(Choice("adam", {"lr": 1e-3}), torch.nn.Linear(2, 1))
    """
    return OPTIMIZERS.build(choice.name, network.parameters(), **choice.options)
