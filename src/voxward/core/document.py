"""What every JSON and YAML file of voxward carries: the number of its format, and mostly a checksum of its contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from voxward.core.errors import UserError

FORMAT = 1
"""The format that this version writes. Version 0.1 wrote none, and its files are still read."""

KEY = "format"
CHECKSUM = "checksum"
"""The entry that tells a file with a changed digit from a whole one. Version 0.2 and earlier ones wrote none, and a
file that people write or edit need not have one."""


def with_format(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data for a file that people may edit, with the format number in front.

    Args:
        data: The plain data, without a format number.
    """
    return {KEY: FORMAT, **data}


def with_checksum(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data for a file that nobody should edit: with the format number and a checksum in front.

    Args:
        data: The plain data as JSON can hold it, without a format number and a checksum.
    """
    numbered = with_format(data)
    return {KEY: FORMAT, CHECKSUM: _checksum(numbered), **data}


def without_format(data: Any, source: str) -> Any:
    """Return what a file holds beside its format number and its checksum.

    Args:
        data: The whole content; anything but a mapping is returned as it is.
        source: The file's name, for the message.

    Raises:
        UserError: The file is damaged, a newer version of voxward wrote it, or the number is none.
    """
    if not isinstance(data, Mapping):
        return data
    if KEY in data:
        _check_format(data[KEY], source)
    if changed(data):
        raise UserError(
            f"{source} is damaged, or was edited: its contents do not have the checksum that stands in it. Restore it "
            f"from a copy, or let the command that wrote it write it again; if you have edited it yourself, delete its "
            f"entry {CHECKSUM!r}"
        )
    return {key: value for key, value in data.items() if key not in (KEY, CHECKSUM)}


def changed(data: Any) -> bool:
    """Return whether a file holds a checksum that is not that of its contents.

    Args:
        data: The whole content.
    """
    return isinstance(data, Mapping) and CHECKSUM in data and data[CHECKSUM] != _checksum(data)


def _check_format(found: Any, source: str) -> None:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise UserError(f"{source}: format must be a whole number from 1 to {FORMAT}, got {found!r}")
    if found > FORMAT:
        raise UserError(
            f"{source} has format {found}, and this version of voxward reads formats up to {FORMAT}: update voxward"
        )


def _checksum(data: Mapping[str, Any]) -> str:
    """The checksum of all entries but the checksum itself, in any order, however the file is laid out."""
    content = {key: value for key, value in data.items() if key != CHECKSUM}
    # Written and read once, because keys that are numbers in memory are texts in a file, and sort differently.
    stored = json.loads(json.dumps(content, default=str))
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
