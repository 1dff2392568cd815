"""Warnings as lines of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.markup import escape

from voxward.cli.arguments import errors

_INSTALLED = ("site-packages", "dist-packages")
"""The folders that packages are installed in."""


def warner() -> Callable[..., None]:
    """Return what prints a warning in one line, for `warnings.showwarning`; a user has no use for the line of code.

    Each text is printed once in a command: the same may be found in many places. A warning of another package says
    which one that is.
    """
    told = set[str]()

    def warn(message: Warning | str, category: type[Warning], filename: str, *where: object, **others: object) -> None:
        text = " ".join(str(message).split()) or category.__name__
        if (origin := _package(filename)) is not None:
            text += f" ({category.__name__} of {origin})"
        if text not in told:
            told.add(text)
            errors.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)

    return warn


def _package(filename: str) -> str | None:
    """The installed package that a file belongs to; None for voxward, for Python's own library, and where unknown."""
    parts = Path(filename).parts
    place = next((n for n in range(len(parts) - 2, -1, -1) if parts[n] in _INSTALLED), None)
    if place is None:
        return None
    name = parts[place + 1].removesuffix(".py")
    return None if name == "voxward" else name
