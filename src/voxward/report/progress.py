"""Progress for a person: a table that moves on a terminal, and lines in a log file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from voxward.core.progress import SEPARATOR
from voxward.report.stages import Stage, Stages, clock_text, named, shown, time_text

LINE_EVERY = 10.0
"""The least number of seconds between two lines, of which there is at most one for each unit of work."""
LIFE_EVERY = 60.0
"""The number of seconds after which a unit that takes long has another line."""

_NARROW = 60
"""Columns below which a terminal has no room for bars."""
_PAST = 6
"""How many finished stages a table shows."""
_LOWEST, _ARRAY_DICE = "lowest_dice", "array_dice"


class ShowProgress:
    """Shows how far long work is: what runs now, the lowest Dice so far, and how long the whole still takes.

    Inside `with`, on a terminal with colours, it is a table that moves. Everywhere else it is lines: one for each unit
    of work, at most every ten seconds. `NO_COLOR=1` or `TERM=dumb` ask for lines, too.

    Args:
        console: Where it is shown; None: the standard error stream, as on the command line.
        clock: Returns the time in seconds.

    Example:
        >>> import voxward
        >>> with voxward.ShowProgress() as progress:  # doctest: +SKIP
        ...     out = voxward.Output("checked", progress=progress)
        ...     voxward.attack("run", "Task04_Hippocampus", out=out)
        >>> voxward.predict("run", ["scan.nii.gz"], out="masks", progress=voxward.ShowProgress())  # doctest: +SKIP
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = Console(stderr=True) if console is None else console
        self._clock, self._stages = clock, Stages()
        # A table is drawn by a thread of its own.
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._lines = _Lines(self.console)

    def __enter__(self) -> ShowProgress:
        if _can_move(self.console):
            self._live = Live(
                console=self.console, get_renderable=self._table, refresh_per_second=4, vertical_overflow="ellipsis",
                # What else is printed appears above the table; what goes into a file stays there.
                redirect_stdout=_is_terminal(sys.stdout), redirect_stderr=_is_terminal(sys.stderr),
            )  # fmt: skip
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._lock:
            stopped = kind is not None and bool(self._stages.open)
            if self._live is None and stopped:
                self._lines.stop(self._stages.open[0], self._clock())
        if self._live is not None:
            self._live.stop()  # the last state stays, also that of work that was stopped
            self._live = None

    def __call__(self, stage: str, done: int, total: int | None, /, **figures: float | str) -> None:
        """Show how far a stage is.

        Args:
            stage: The name of the stage.
            done: How much of the stage is done.
            total: How much there is in all; None if that is unknown.
            figures: Figures or words that are worth showing, by name; `core.progress` says which names mean what.
        """
        now = self._clock()
        with self._lock:
            heard = self._stages.hear(stage, done, total, figures, now)
            if self._live is None and heard is not None:
                depth, heard_of = heard
                self._lines.tell(heard_of if depth == 0 else self._stages.open[0], self._stages.open[1:], now)

    def _table(self) -> RenderableType:
        with self._lock:
            now, narrow = self._clock(), self.console.width < _NARROW
            rows = [*self._stages.past[-_PAST:], *self._stages.open]
            return Group(_bars(rows, now, narrow), *_details(self._stages.open or self._stages.past[-1:], narrow))


class _Lines:
    """Lines of a log file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last: float | None = None
        self.told: tuple[Stage, int, str] | None = None

    def tell(self, stage: Stage, parts: list[Stage], now: float) -> None:
        """Print a line where one is due.

        Args:
            stage: The stage that is no part of another.
            parts: The stages that are parts of it.
            now: The time in seconds.
        """
        told, state = self.told, (stage, stage.done, stage.running)
        if told is not None and told[0] is stage and not stage.finished and self.last is not None:
            wait = LIFE_EVERY if told == state else LINE_EVERY
            if now - self.last < wait:
                return
        time = time_text(stage, now)
        self._print(stage, parts, time if stage.finished or not time else f"{time} in all")
        self.last, self.told = now, state

    def stop(self, stage: Stage, now: float) -> None:
        """Print where work stood when it was stopped."""
        self._print(stage, [], f"stopped after {clock_text(now - stage.began)}")

    def _print(self, stage: Stage, parts: list[Stage], time: str) -> None:
        inner = [word for part in parts[:1] for word in (_step(stage, part), *part.words())]
        # The lowest Dice of all that ran says little beside that of what runs.
        words = stage.words(*((_LOWEST,) if any(_ARRAY_DICE in part.figures for part in parts[:1]) else ()))
        lead = (f"{stage.name} {stage.running}", stage.count) if stage.running else (f"{stage.name} {stage.count}",)
        encoding = self.console.encoding or "ascii"
        text = SEPARATOR.join(word for word in (*lead, *inner, *words, time) if word)
        text = text if encoding.startswith("utf") else text.replace(SEPARATOR, " - ")
        self.console.print(
            text.encode(encoding, "replace").decode(encoding), markup=False, highlight=False, soft_wrap=True
        )


def _step(stage: Stage, part: Stage) -> str:
    """How far a part is; its name is left out where it says again what runs."""
    named_already = part.name in stage.running.split(SEPARATOR)
    return f"step {part.count}" if named_already else f"{part.name} {part.count}"


def _bars(stages: list[Stage], now: float, narrow: bool) -> Table:
    """A row for each stage: its name, how much is done, a bar, and the time that is left."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=22)
    table.add_column(no_wrap=True, overflow="ellipsis", justify="right")
    if not narrow:
        table.add_column(width=20)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for stage in stages:
        bar = [] if narrow else [ProgressBar(total=1.0, completed=stage.share, width=20)]
        table.add_row(Text(stage.name), Text(stage.count), *bar, Text(time_text(stage, now)))
    return table


def _details(stages: list[Stage], narrow: bool) -> list[Text]:
    """What runs now, the lowest Dice, what is left, and the other figures: a line each."""
    found = dict[str, str]()
    for stage in stages[:1]:
        found |= {"running": stage.running, "left": stage.left}
        if _LOWEST in stage.figures:
            found[named(_LOWEST)] = shown(stage.figures[_LOWEST])
    found["now"] = "  ".join(word for stage in stages for word in stage.words(_LOWEST))
    width = 0 if narrow else max(map(len, found))
    return [
        Text.assemble((name.ljust(width), "dim"), " ", value, no_wrap=True, overflow="ellipsis")
        for name, value in found.items() if value
    ]  # fmt: skip


def _can_move(console: Console) -> bool:
    """Return whether a table may move there: a terminal with colours whose characters are all there."""
    colours = console.color_system is not None and not console.no_color
    return console.is_interactive and colours and _is_terminal(console.file) and console.encoding.startswith("utf")


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # replaced by something else, or closed
        return False
