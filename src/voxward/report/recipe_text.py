"""What a recipe is, in words that are true of the network that was made by it, whatever was changed in it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from voxward.core.errors import UserError
from voxward.core.plan import Plan
from voxward.core.recipe import Choice, Recipe
from voxward.nets.registry import NETWORKS, NetworkEntry

# What the descriptions of these packaged recipes said in versions before this one, also where --set had changed it.
_ONCE = {
    "dynunet": ", 16 to 128 channels",
    "unet-plus-plus": " at its paper's width, 26.4 million parameters",
}


def recipe_text(recipe: Recipe, plan: Plan | None) -> str:
    """Return the description of a recipe with the widths of its network: "MONAI DynUNet, 8 to 32 channels".

    Args:
        recipe: The recipe that a run was trained with.
        plan: The plan of the run, which decides how many levels the network has; None where it is not known.

    Returns:
        The description without a full stop. The widths alone where the recipe has none.
    """
    text = recipe.description.rstrip(".")
    if (once := _ONCE.get(recipe.name)) is not None:
        text = text.replace(once, "")
    return ", ".join(filter(None, (text, _widths(recipe.network, plan))))


def _widths(network: Choice, plan: Plan | None) -> str:
    """The fewest and the most channels of a network's levels; empty where it takes no width for each of them."""
    if network.name not in NETWORKS:  # a recipe of another version
        return ""
    entry = NETWORKS[network.name]
    default = inspect.signature(entry.build).parameters.get("filters")
    filters = network.options.get("filters", None if default is None else default.default)
    if not isinstance(filters, Sequence) or not filters:
        return ""
    strides = network.options.get("strides") or _strides(entry, plan)
    used = filters[: len(strides) + 1] if strides else filters
    low, high = min(used), max(used)
    return f"{low} channels" if low == high else f"{low} to {high} channels"


def _strides(entry: NetworkEntry, plan: Plan | None) -> Sequence[Any]:
    """The strides that a plan gives a network; none where there is no plan, or it is one of another network."""
    if plan is None:
        return ()
    try:
        found: Sequence[Any] = entry.from_plan(plan).get("strides", ())
    except UserError:
        return ()
    return found
