"""How long work says where it stands; only the command line turns it into something visible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called with the stage's name, how much of it is done, out of how much, and figures or words worth showing."""

    def __call__(self, stage: str, done: int, total: int | None, /, **figures: float | str) -> None: ...  # noqa: D102


def silent(stage: str, done: int, total: int | None, /, **figures: float | str) -> None:
    """Show nothing."""


def counter(progress: Progress, stage: str) -> Callable[[int, int], None]:
    """The two-number form of `progress` for one stage."""
    return lambda done, total: progress(stage, done, total)
