"""What is known of work while it runs: its stages, and how long it will still take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from voxward.core.progress import BEFORE, RESERVED, RUNNING, SECONDS_LEFT, SHARE

Figures = Mapping[str, float | str]

# What a stage counts; without the last letter it is one.
_COUNTED = {
    "attack": "units", "benchmark": "units", "runs": "runs", "train": "steps", "search": "steps",
    "suite": "stages", "estimate": "cells",
    **dict.fromkeys(
        ("fingerprint", "prepare", "select post-processing", "predict", "score", "cases", "compare", "merge"), "cases"
    ),
    "decode": "networks", "windows": "windows",
}  # fmt: skip
# What an attack computes is an array; the file that is written of it may have another Dice.
_NAMES = {
    "dice": "Dice", "array_dice": "Dice of the array", "robust_dice": "robust Dice",
    "lowest_dice": "lowest Dice of all attacks so far, of arrays",
}  # fmt: skip
# Too little of the work says nothing about its speed.
_TOO_LITTLE = 1e-9


@dataclass
class Stage:
    """One stage of work.

    Attributes:
        name: Its name.
        done: How much is done.
        total: How much there is in all; None if that is unknown.
        began: When it was first heard of, in seconds.
        figures: The figures of the last report.
        ended: When it was finished, in seconds; None while it is not.
    """

    name: str
    done: int
    total: int | None
    began: float
    figures: Figures = field(default_factory=dict)
    ended: float | None = None
    _before: float = field(init=False)

    def __post_init__(self) -> None:
        self._before = self._share()

    @property
    def finished(self) -> bool:
        """Return whether all of the stage is done."""
        return self.total is not None and self.done >= self.total

    @property
    def running(self) -> str:
        """Return what is being worked on, in words; empty where that was not said."""
        return plain(str(self.figures.get(RUNNING, "")))

    @property
    def count(self) -> str:
        """Return how much is done, such as "12/390 units"."""
        total = "" if self.total is None else f"/{self.total}"
        return f"{self.done}{total} {self._noun(self.done if self.total is None else self.total)}".rstrip()

    @property
    def left(self) -> str:
        """Return how much is not done, such as "378 units"; empty where that is unknown."""
        left = 0 if self.total is None else self.total - self.done
        return f"{left} {self._noun(left)}".rstrip() if left > 0 else ""

    def _noun(self, count: int) -> str:
        noun = _COUNTED.get(self.name, "")
        return noun[:-1] if count == 1 else noun

    @property
    def share(self) -> float:
        """Return how much is done, from 0 to 1."""
        return min(1.0, max(0.0, self._share()))

    def words(self, *but: str) -> list[str]:
        """Return the figures that are worth showing, such as "Dice of the array 0.412".

        Args:
            but: The names of figures that are left out.
        """
        left_out = (*RESERVED, *but)
        return [f"{named(name)} {shown(value)}" for name, value in self.figures.items() if name not in left_out]

    def seconds_left(self, now: float) -> float | None:
        """Return how long the stage will still take; None where that cannot be told yet.

        It goes on as fast as it went since it was first heard of: what an earlier call had done does not count.

        Args:
            now: The time in seconds.
        """
        if SECONDS_LEFT in self.figures:
            left = float(self.figures[SECONDS_LEFT])
            return max(0.0, left) if math.isfinite(left) else None
        before = float(self.figures.get(BEFORE, self._before))
        over, elapsed = self._share() - before, now - self.began
        if over <= _TOO_LITTLE or elapsed <= 0:
            return None
        return elapsed * max(0.0, 1.0 - self._share()) / over

    def _share(self) -> float:
        if math.isfinite(share := float(self.figures.get(SHARE, math.nan))):
            return share
        return self.done / self.total if self.total else 0.0


class Stages:
    """The stages of some work, of which those that are reported while another is unfinished are its parts.

    Attributes:
        open: The unfinished stages, each a part of the one before it.
        past: The finished stages that were no part of another.
    """

    def __init__(self) -> None:
        self.open: list[Stage] = []
        self.past: list[Stage] = []

    def hear(self, name: str, done: int, total: int | None, figures: Figures, now: float) -> tuple[int, Stage] | None:
        """Note a report.

        Args:
            name: The name of the stage.
            done: How much of it is done.
            total: How much there is in all.
            figures: Its figures.
            now: The time in seconds.

        Returns:
            How many stages it is a part of, and the stage. None where it repeats the end of a stage.
        """
        depth = next((n for n, stage in enumerate(self.open) if stage.name == name), None)
        if depth is None:
            if self._repeats(name, done, total):
                return None
            depth = len(self.open)
            self.open.append(Stage(name, done, total, now, figures))
        stage = self.open[depth]
        if done < stage.done:  # the same stage of the next unit
            self.open[depth] = stage = Stage(name, done, total, now, figures)
        if done != stage.done or (RUNNING in figures and figures[RUNNING] != stage.figures.get(RUNNING)):
            del self.open[depth + 1 :]  # its parts belonged to what was done before
        stage.done, stage.total, stage.figures = done, total, figures
        if stage.finished:
            self._end(depth, now)
        return depth, stage

    def _repeats(self, name: str, done: int, total: int | None) -> bool:
        last = self.past[-1] if self.past and not self.open else None
        return last is not None and (last.name, last.done, last.total) == (name, done, total)

    def _end(self, depth: int, now: float) -> None:
        stage = self.open[depth]
        stage.ended = now
        del self.open[depth:]
        if depth == 0:
            self.past.append(stage)


def named(figure: str) -> str:
    """Return the name of a figure as people read it."""
    return _NAMES.get(figure, figure.replace("_", " "))


def shown(value: float | str) -> str:
    """Return a figure as people read it."""
    return plain(value) if isinstance(value, str) else f"{value:.3f}"


def plain(text: str) -> str:
    """Return a text in one line, without characters that move a cursor."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def clock_text(seconds: float) -> str:
    """Return a time as hours, minutes and seconds, such as "00:41:10"."""
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def time_text(stage: Stage, now: float) -> str:
    """Return how long a stage still takes, of how long in all: "00:41:10 left of 01:05:00"; empty while unknown.

    Args:
        stage: The stage.
        now: The time in seconds.
    """
    if stage.ended is not None:
        took = stage.ended - stage.began
        return f"{clock_text(took)} in all" if took >= 1 else ""
    left = stage.seconds_left(now)
    return "" if left is None else f"{clock_text(left)} left of {clock_text(now - stage.began + left)}"
