"""One table in several forms: for the terminal, as Markdown, and as CSV. Nothing is printed here.

Every table of voxward is a `Table`, which says what is shown; only this file knows how a form looks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich import table as rich_tables
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

Value = str | float | int | None
"""A figure at full precision; None where it is undefined."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        heading: Its heading.
        align: The side its cells are aligned to. Cells on the right are numbers: a terminal does not break them.
        short: A heading for terminals, which are narrow; it may hold line breaks. Empty: the same heading.
    """

    heading: str
    align: Literal["left", "right"] = "right"
    short: str = ""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        cells: Its text, a cell per column.
        strong: Whether the row stands out.
        section: Whether a section begins with the row: a terminal draws a line above it.
        narrow: The cells for terminals, which may hold line breaks. Empty: the same cells.
        style: The row's style in a terminal, such as "red".
    """

    cells: tuple[str, ...]
    strong: bool = False
    section: bool = False
    narrow: tuple[str, ...] = ()
    style: str = ""


@dataclass(frozen=True)
class Table:
    """Figures that are shown and stored.

    Attributes:
        columns: The columns that a person reads.
        rows: Their rows.
        title: A line above the table: what it is about.
        caption: A paragraph below the table: what it shows.
        notes: A list below the table: how to read the figures.
        warnings: What must be known before any figure is believed: checks that failed, cases that are left out.
        fields: The columns for a program.
        data: The same figures at full precision, a value per field.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: str = ""
    caption: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    data: tuple[tuple[Value, ...], ...] = ()

    def terminal(self) -> RenderableType:
        """The table for a rich console, as narrow as it gets: a line should fit 80 characters with uncut numbers."""
        table = rich_tables.Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
        for column in self.columns:
            number = column.align == "right"
            heading = escape(column.short or column.heading)
            table.add_column(heading, justify=column.align, no_wrap=number, overflow="fold")
        for row in self.rows:
            if row.section:
                table.add_section()
            cells = map(escape, row.narrow or row.cells)
            table.add_row(*cells, style="bold" if row.strong else row.style or None)
        above = [Text(self.title, "italic")] if self.title else []
        warnings = [Text(warning, "bold red") for warning in self.warnings]
        caption = [Text(self.caption, "italic")] if self.caption else []
        return Group(*above, table, *warnings, *caption, *map(Text, self.notes))

    def markdown(self) -> str:
        """The table as GitHub Markdown: title, warnings, table, caption, notes."""
        rules = ["---" if column.align == "left" else "---:" for column in self.columns]
        lines = [_line([column.heading for column in self.columns]), _line(rules), *map(_markdown_row, self.rows)]
        parts = [
            *([self.title] if self.title else []),
            *(f"**{warning}**" for warning in self.warnings),
            "\n".join(lines),
            *([self.caption] if self.caption else []),
            *(["\n".join(f"- {note}" for note in self.notes)] if self.notes else []),
        ]
        return "\n\n".join(parts) + "\n"

    def csv(self) -> str:
        """The figures at full precision as CSV, with a heading; undefined ones are empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.fields)
        writer.writerows(self.data)
        return text.getvalue()


def _markdown_row(row: Row) -> str:
    cells = [cell.replace("|", "\\|") for cell in row.cells]
    return _line([f"**{cell}**" if row.strong and cell else cell for cell in cells])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
