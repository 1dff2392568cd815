"""Warnings as lines of the command line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape

from voxward.cli.arguments import errors

_INSTALLED = ("site-packages", "dist-packages")
"""The folders that packages are installed in."""


@contextmanager
def warnings_in_lines() -> Iterator[None]:
    """Print each warning inside the block as one line.

    Where threads enter and leave `warnings.catch_warnings` in turn, Python may be left with its own function that shows
    a warning; that one still asks how a warning is written, so this is replaced as well.
    """
    before = warnings.showwarning, warnings.formatwarning
    warnings.showwarning, warnings.formatwarning = warner(), _line
    try:
        yield
    finally:
        warnings.showwarning, warnings.formatwarning = before


def warner() -> Callable[..., None]:
    """Return what prints a warning in one line, for `warnings.showwarning`; a user has no use for the line of code.

    Each text is printed once in a command: the same may be found in many places. A warning of another package says
    which one that is.
    """
    told = set[str]()

    def warn(message: Warning | str, category: type[Warning], filename: str, *where: object, **others: object) -> None:
        if (text := _text(message, category, filename)) not in told:
            told.add(text)
            errors.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)

    return warn


def _line(message: Warning | str, category: type[Warning], filename: str, *where: object, **others: object) -> str:
    return f"warning: {_text(message, category, filename)}\n"


def _text(message: Warning | str, category: type[Warning], filename: str) -> str:
    text, origin = " ".join(str(message).split()) or category.__name__, _package(filename)
    return text if origin is None else f"{text} ({category.__name__} of {origin})"


def _package(filename: str) -> str | None:
    """The installed package that a file belongs to; None for voxward, for Python's own library, and where unknown."""
    parts = Path(filename).parts
    place = next((n for n in range(len(parts) - 2, -1, -1) if parts[n] in _INSTALLED), None)
    if place is None:
        return None
    name = parts[place + 1].removesuffix(".py")
    return None if name == "voxward" else name
