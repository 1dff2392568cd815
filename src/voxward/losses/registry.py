"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable

from voxward.core.recipe import Choice
from voxward.core.registry import Registry
from voxward.losses.cross_entropy import cross_entropy
from voxward.losses.dice_ce import dice_cross_entropy
from voxward.losses.types import Loss

LOSSES: Registry[Callable[..., Loss]] = Registry("loss", {"dice-ce": dice_cross_entropy, "ce": cross_entropy})


def create_loss(choice: Choice) -> Loss:
    """The recipe's loss. Raises ValueError for an unknown name or option."""
    build = LOSSES[choice.name]
    try:
        return build(**choice.options)
    except TypeError as error:
        raise ValueError(f"loss {choice.name!r}: {error}") from error
