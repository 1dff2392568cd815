"""How long work reports its progress; only the command line turns the reports into something visible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """A function that long work calls to report how far it is.

    It is called with the name of the stage, how much of the stage is done, how much there is in all (None if that is
    unknown), and figures or words that are worth showing, by name.
    """

    def __call__(self, stage: str, done: int, total: int | None, /, **figures: float | str) -> None: ...  # noqa: D102


def silent(stage: str, done: int, total: int | None, /, **figures: float | str) -> None:
    """Ignore a report of progress."""


def counter(progress: Progress, stage: str) -> Callable[[int, int], None]:
    """Return a function of two numbers that reports the progress of one stage.

    Args:
        progress: What the reports go to.
        stage: The name of the stage.

    Returns:
        A function of how much is done and how much there is in all.
    """
    return lambda done, total: progress(stage, done, total)
