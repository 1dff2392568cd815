"""Normalisations of a channel's intensities, one file each, and the table of their names in recipes and plans."""

from __future__ import annotations

from voxward.core.errors import UserError
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import Preparation
from voxward.core.registry import Registry, unknown_name
from voxward.data.normalization.clip import Clip
from voxward.data.normalization.ct import CT
from voxward.data.normalization.minmax import MinMax
from voxward.data.normalization.mr import MR
from voxward.data.normalization.none import Unchanged
from voxward.data.normalization.normalization import LiveNumbers, Normalization, Numbers
from voxward.data.normalization.zscore import ZScore

__all__ = [
    "NORMALIZATIONS", "LiveNumbers", "Normalization", "Numbers", "check_normalization", "chosen_normalization",
    "normalization_of",
]  # fmt: skip

NORMALIZATIONS: Registry[Normalization] = Registry(
    "normalization",
    {
        "ct": CT(),
        "mr": MR(),
        "clip": Clip(),
        "minmax": MinMax(),
        "zscore": ZScore(),
        "none": Unchanged(),
    },
)

# The choice of a recipe that leaves it to the channel's name.
_AUTO = "auto"


def chosen_normalization(preparation: Preparation, channel: str) -> str:
    """Return the name of the normalisation that a recipe chooses for a channel.

    Args:
        preparation: The recipe's part on preparation. Its normalisation `auto` becomes `ct` for a channel that is named
            CT, in small letters or capitals, and `mr` for every other channel.
        channel: The name of the channel.
    """
    if preparation.normalization != _AUTO:
        return preparation.normalization
    return "ct" if channel.strip().lower() == "ct" else "mr"


def normalization_of(channel: ChannelPlan) -> Normalization:
    """Return the normalisation that a plan names for a channel.

    Args:
        channel: The channel's part of the plan.

    Raises:
        UserError: There is no normalisation of that name; the message lists the names that exist.
    """
    name = channel.normalization
    if name not in NORMALIZATIONS:
        raise UserError(f"channel {channel.name!r} of the plan: {unknown_name('normalization', name, NORMALIZATIONS)}")
    return NORMALIZATIONS[name]


def check_normalization(preparation: Preparation) -> None:
    """Refuse a recipe whose normalisation is unknown or lacks a setting, before any file is read.

    Args:
        preparation: The recipe's part on preparation.

    Raises:
        UserError: There is no normalisation of that name, or it needs a setting that the recipe does not have.
    """
    name = preparation.normalization
    if name == _AUTO:
        return
    if name not in NORMALIZATIONS:
        raise UserError("preparation: " + unknown_name("normalization", name, {_AUTO: None, **NORMALIZATIONS}))
    problems = NORMALIZATIONS[name].problems(preparation)
    if problems:
        raise UserError("preparation: " + "; ".join(problems))
