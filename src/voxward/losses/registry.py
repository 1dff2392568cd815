"""Every loss by its name in a recipe: for classes that exclude each other, and for regions that may overlap."""

from __future__ import annotations

from collections.abc import Callable

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.recipe import Choice
from voxward.core.registry import Registry
from voxward.losses.annotated import of_labels
from voxward.losses.cross_entropy import cross_entropy
from voxward.losses.dice_ce import dice_cross_entropy
from voxward.losses.regions import region_ce, region_dice, region_dice_ce
from voxward.losses.types import Loss, MaskedLoss

LOSSES: Registry[Callable[..., MaskedLoss]] = Registry("loss", {"dice-ce": dice_cross_entropy, "ce": cross_entropy})
REGION_LOSSES: Registry[Callable[..., MaskedLoss]] = Registry(
    "loss of regions", {"dice-ce": region_dice_ce, "ce": region_ce, "region-dice": region_dice}
)


def create_loss(choice: Choice, labels: LabelSet | None = None) -> Loss:
    """Make the loss that a recipe names.

    Args:
        choice: The name of the loss and its options.
        labels: The labels of the dataset. If they declare regions, the loss compares regions; otherwise, and for
            None, it compares classes. If they declare an ignore label, unannotated voxels count nowhere.

    Returns:
        A function of logits (b, k, d, h, w) and class indices (b, d, h, w) that returns one value.

    Raises:
        UserError: The name or an option is unknown, or the loss needs regions and `labels` has none.

    Example:
        >>> loss = create_loss(Choice("dice-ce", {"batch_dice": True}))
    """
    if labels is not None and labels.regions:
        return of_labels(REGION_LOSSES.build(choice.name, **choice.options), labels)
    if choice.name in REGION_LOSSES and choice.name not in LOSSES:
        raise UserError(
            f"loss {choice.name!r} needs regions: declare them in the recipe, innermost one included in the next, "
            "e.g. --set 'regions={ET: [3], TC: [2, 3], WT: [1, 2, 3]}'"
        )
    return of_labels(LOSSES.build(choice.name, **choice.options), labels)
