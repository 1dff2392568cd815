"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.recipe import Choice
from voxward.core.registry import Registry
from voxward.losses.cross_entropy import cross_entropy
from voxward.losses.dice_ce import dice_cross_entropy
from voxward.losses.regions import of_classes, region_ce, region_dice, region_dice_ce
from voxward.losses.types import Loss

Losses = Registry[Callable[..., Loss]]
LOSSES: Losses = Registry("loss", {"dice-ce": dice_cross_entropy, "ce": cross_entropy})
REGION_LOSSES: Losses = Registry(
    "loss of regions", {"dice-ce": region_dice_ce, "ce": region_ce, "region-dice": region_dice}
)


def create_loss(choice: Choice, labels: LabelSet | None = None) -> Loss:
    """The recipe's loss, on class indices; of the regions where `labels` has any.

    Raises ValueError for an unknown name or option, and for a loss that does not know classes, or regions.
    """
    if labels is None or not labels.regions:
        if choice.name in REGION_LOSSES and choice.name not in LOSSES:
            raise UserError(
                f"loss {choice.name!r} needs regions: declare them in the recipe, innermost one included in the next, "
                "e.g. --set 'regions={ET: [3], TC: [2, 3], WT: [1, 2, 3]}'"
            )
        return _built(LOSSES, choice)
    return of_classes(_built(REGION_LOSSES, choice), labels)


def _built(losses: Losses, choice: Choice) -> Loss:
    build = losses[choice.name]
    try:
        return build(**choice.options)
    except TypeError as error:
        raise UserError(f"loss {choice.name!r}: {error}") from error
