"""The format number that every JSON and YAML file of voxward carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxward.core.errors import UserError

FORMAT = 1
"""The format that this version writes. Version 0.1 wrote none, and its files are still read."""

KEY = "format"


def with_format(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data for a file, with the format number in front.

    Args:
        data: The plain data, without a format number.
    """
    return {KEY: FORMAT, **data}


def without_format(data: Any, source: str) -> Any:
    """Return what a file holds beside its format number.

    Args:
        data: The whole content; anything but a mapping is returned as it is.
        source: The file's name, for the message.

    Raises:
        UserError: A newer version of voxward wrote the file, or the number is none.
    """
    if not isinstance(data, Mapping) or KEY not in data:
        return data
    found = data[KEY]
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise UserError(f"{source}: format must be a whole number from 1 to {FORMAT}, got {found!r}")
    if found > FORMAT:
        raise UserError(
            f"{source} has format {found}, and this version of voxward reads formats up to {FORMAT}: update voxward"
        )
    return {key: value for key, value in data.items() if key != KEY}
