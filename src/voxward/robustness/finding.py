"""The outcome of a check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The outcome of one check of one model.

    Attributes:
        name: Name of the check.
        passed: Whether it passed; None where the records cannot tell.
        text: One sentence: what was found, or what holds.
    """

    name: str
    passed: bool | None
    text: str
