"""Progress for a person: bars on a terminal, lines in a log."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

# Seconds between the lines of a stage where there is no terminal to draw a bar on.
_LINE_EVERY = 30.0


class BarProgress:
    """Reports of progress for a person to read, as a `core.progress.Progress`.

    On a terminal each stage is a bar with its figures and the time left. Elsewhere, such as in a log file, it is a line
    at most every half minute.

    Args:
        console: Where it is shown.

    Example:
        >>> with BarProgress(Console(stderr=True)) as progress:
        ...     voxward.train("Task04_Hippocampus", "run", progress=progress)
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Bar(
            TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[figures]}"), console=console,
        )  # fmt: skip
        self.tasks: dict[str, Any] = {}
        self.lines: dict[str, float] = {}

    def __enter__(self) -> BarProgress:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def __call__(self, stage: str, done: int, total: int | None, /, **figures: float | str) -> None:
        """Show how far a stage is.

        Args:
            stage: The name of the stage.
            done: How much of the stage is done.
            total: How much there is in all; None if that is unknown.
            figures: Figures or words that are worth showing, by name.
        """
        text = "  ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in figures.items())
        if not self.console.is_terminal:
            self._line(stage, done, total, text)
            return
        if stage not in self.tasks:
            self.tasks[stage] = self.bar.add_task(stage, total=total, figures="")
        self.bar.update(self.tasks[stage], completed=done, total=total, figures=text)

    def _line(self, stage: str, done: int, total: int | None, text: str) -> None:
        now = time.monotonic()
        if stage in self.lines and done != total and now - self.lines[stage] < _LINE_EVERY:
            return
        self.lines[stage] = now
        self.console.print(
            f"{stage} {done}{'' if total is None else f'/{total}'} {text}".rstrip(), markup=False, soft_wrap=True
        )


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4f}"
