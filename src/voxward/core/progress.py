"""How long work reports its progress; `report.progress.ShowProgress` turns the reports into something visible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

RUNNING, SHARE, BEFORE, SECONDS_LEFT = RESERVED = ("running", "share", "before", "seconds_left")
"""Names of figures that mean the same in every stage:

- `running`: what is being worked on now, in words;
- `share`: how much of the stage is done, from 0 to 1, weighted by the time that its parts are expected to take;
- `before`: the share that an earlier call had done, which says nothing about the speed of this one;
- `seconds_left`: how long the stage will still take, where the work itself can know it; not a number where it cannot
  tell yet.
"""


SEPARATOR = " \u00b7 "
"""What stands between the parts of a line, and of what is being worked on."""


@runtime_checkable
class Progress(Protocol):
    """A function that long work calls to report how far it is.

    It is called with the name of the stage, how much of the stage is done, how much there is in all (None if that is
    unknown), and figures or words that are worth showing, by name. A stage that is reported while another one is
    unfinished is a part of what the other one is working on.
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
