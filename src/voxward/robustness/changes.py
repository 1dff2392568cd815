"""Changes that a user asks for, of the protocol and of the systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from voxward.core.errors import UserError
from voxward.core.registry import unknown_name
from voxward.robustness.protocol import Protocol
from voxward.systems.open import KINDS


def sorted_changes(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the changes of the protocol, and those of the systems: the first part of a key says which.

    Args:
        overrides: Changes, each as `dotted.key=value`.

    Raises:
        UserError: Neither a protocol nor a system has such an entry.
    """
    entries = {field.name for field in fields(Protocol)} - {"name"}
    of_systems = {field.name for kind in KINDS.values() for field in fields(kind.entry)}
    keys = {change: change.partition("=")[0].strip().split(".")[0] for change in overrides}
    for key in keys.values():
        if key not in entries | of_systems:
            raise UserError(unknown_name("key", key, dict.fromkeys(sorted(entries | of_systems))))
    mine = [change for change in overrides if keys[change] in entries]
    return mine, [change for change in overrides if change not in mine]
