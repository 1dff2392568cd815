"""Normalisations of a channel's intensities, one file each, and the table of their names in recipes and plans."""

from __future__ import annotations

import re
from collections.abc import Sequence

from voxward.core.errors import UserError
from voxward.core.plan import ChannelFingerprint, ChannelPlan, Intensities
from voxward.core.recipe import Preparation
from voxward.core.registry import Registry, unknown_name
from voxward.data.intensities import is_map
from voxward.data.normalization.clip import Clip
from voxward.data.normalization.ct import CT
from voxward.data.normalization.minmax import MinMax
from voxward.data.normalization.mr import MR
from voxward.data.normalization.none import Unchanged
from voxward.data.normalization.normalization import LiveNumbers, Normalization, Numbers
from voxward.data.normalization.rescale import Rescale
from voxward.data.normalization.rgb import RGB
from voxward.data.normalization.scale import Scale
from voxward.data.normalization.standard import Standard
from voxward.data.normalization.zscore import ZScore

__all__ = [
    "NAMED", "NORMALIZATIONS", "LiveNumbers", "Normalization", "Numbers", "check_normalization", "chosen_normalization",
    "normalization_of", "plan_channel",
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
        "rescale": Rescale(),
        "rgb": RGB(),
        "scale": Scale(),
        "standard": Standard(),
    },
)

NAMED = {
    "CT": "ct",
    "noNorm": "none",
    "none": "none",
    "zscore": "zscore",
    "rescale_to_0_1": "rescale",
    "rescale_0_1": "rescale",
    "rgb_to_0_1": "rgb",
}
"""Names of channels that name a normalisation, as in nnU-Net; capitals, spaces, `-` and `_` do not matter."""

# The choice of a recipe that leaves it to the channel's name, and what that is for all other names.
_AUTO, _OTHERWISE = "auto", "mr"


def chosen_normalization(preparation: Preparation, channel: str, number: int = 0) -> str:
    """Return the name of the normalisation that a recipe chooses for a channel.

    Args:
        preparation: The recipe's part on preparation. Its normalisation `auto` becomes what the channel's name says
            (NAMED), and `mr` for every other channel.
        channel: The name of the channel.
        number: The number of the channel in the files, from 0.
    """
    chosen = _stated(preparation, channel, number) or _AUTO
    return _BY_NAME.get(_plain(channel), _OTHERWISE) if chosen == _AUTO else chosen


def plan_channel(
    preparation: Preparation, channel: ChannelFingerprint, number: int, whole: Intensities | None
) -> ChannelPlan:
    """Decide how a channel is normalised.

    A mask, or another map of few values, would lose some or all of them in a normalisation that is made for images. It
    is scaled to 0 to 1 instead, unless the recipe names a normalisation for this very channel.

    Args:
        preparation: The recipe's part on preparation.
        channel: The intensities of the dataset's foreground.
        number: The number of the channel in the files, from 0.
        whole: The intensities of all voxels of the training cases; None where they are not known.
    """
    name = chosen_normalization(preparation, channel.name, number)
    general = isinstance(preparation.normalization, str) or _stated(preparation, channel.name, number) in (None, _AUTO)
    flat = name == "ct" and not channel.high > channel.low and whole is not None and whole.greatest > whole.least
    if general and not NORMALIZATIONS[name].keeps_values and (is_map(whole) or flat):
        name = "scale"
    return ChannelPlan(channel.name, name, *NORMALIZATIONS[name].planned(channel, preparation, whole))


def _stated(preparation: Preparation, channel: str, number: int) -> str | None:
    """What the recipe says about a channel, by its name, its number or its place; None where it says nothing."""
    given = preparation.normalization
    if isinstance(given, str):
        return given
    if isinstance(given, Sequence):
        return given[number] if number < len(given) else None
    by_name = {_plain(str(key)): value for key, value in given.items()}
    return by_name.get(_plain(channel), by_name.get(str(number)))


def _plain(name: str) -> str:
    return re.sub(r"[^\w+*]|_", "", name.casefold())


_BY_NAME = {_plain(name): normalization for name, normalization in NAMED.items()}


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


def check_normalization(preparation: Preparation, channels: Sequence[str] | None = None) -> None:
    """Refuse a recipe whose normalisation is unknown or lacks a setting, before any file is read.

    Args:
        preparation: The recipe's part on preparation.
        channels: The names of the dataset's channels, where they are known: what the recipe says for single channels
            must be about them.

    Raises:
        UserError: There is no normalisation of that name, it needs a setting that the recipe does not have, or the
            recipe is about a channel that the dataset does not have.
    """
    given = preparation.normalization
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else list(given.values())
    for name in names:
        if name != _AUTO and name not in NORMALIZATIONS:
            raise UserError("preparation: " + unknown_name("normalization", name, {_AUTO: None, **NORMALIZATIONS}))
    problems = [problem for name in names if name != _AUTO for problem in NORMALIZATIONS[name].problems(preparation)]
    if problems:
        raise UserError("preparation: " + "; ".join(dict.fromkeys(problems)))
    if channels is not None:
        _check_channels(preparation, channels)


def _check_channels(preparation: Preparation, channels: Sequence[str]) -> None:
    given = preparation.normalization
    has = f"the dataset has {len(channels)}: {', '.join(channels)}"
    if isinstance(given, str):
        return
    if isinstance(given, Sequence):
        if len(given) != len(channels):
            raise UserError(f"preparation.normalization names {len(given)} channels, but {has}")
        return
    known = {_plain(name) for name in channels} | {str(n) for n in range(len(channels))}
    if wrong := [str(key) for key in given if _plain(str(key)) not in known]:
        raise UserError(f"preparation.normalization is about a channel {', '.join(wrong)}, but {has}")
