"""One table in several forms: for the terminal, as Markdown, and as CSV. Nothing is printed here.

Every table of voxward is a `Table`, which says what is shown; only this file knows how a form looks.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup
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

    def html(self, caption: str = "", sortable: bool = True) -> Markup:
        """The table as HTML: title, warnings, table, caption, notes.

        Args:
            caption: What a screen reader calls the table; empty: its title.
            sortable: Whether a reader can sort it by a column. A cell is sorted by the number that it begins with.
        """
        sortable = sortable and len(self.rows) > 1
        kind = Markup(' class="sortable n-last"') if sortable else Markup("")
        heading = _SORTED_HEAD if sortable else _HEAD
        head = Markup("").join(heading.format(column.align, column.heading) for column in self.columns)
        body = Markup("").join(self._html_row(row) for row in self.rows)
        parts = [
            *([Markup("<p>{}</p>").format(self.title)] if self.title else []),
            *(Markup('<p class="banner" role="note">{}</p>').format(warning) for warning in self.warnings),
            _TABLE.format(kind, caption or self.title or self.caption, head, body),
            *([Markup("<p>{}</p>").format(self.caption)] if self.caption else []),
            *([_list(self.notes)] if self.notes else []),
        ]
        return Markup("\n").join(parts)

    def _html_row(self, row: Row) -> Markup:
        cells = Markup("").join(
            _cell(cell, column, first=place == 0)
            for place, (cell, column) in enumerate(zip(row.cells, self.columns, strict=True))
        )
        kind = Markup(' class="strong"') if row.strong else Markup("")
        return Markup("<tr{}>{}</tr>").format(kind, cells)

    def csv(self) -> str:
        """The figures at full precision as CSV, with a heading; undefined ones are empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.fields)
        writer.writerows(self.data)
        return text.getvalue()


_HEAD = Markup('<th scope="col" class="{}">{}</th>')
# A real button is reached with the keyboard, and a screen reader says that it can be pressed.
_SORTED_HEAD = Markup('<th scope="col" class="{}"><button type="button" class="sort">{}</button></th>')
_TABLE = Markup(
    '<div class="scroll" tabindex="0" role="region" aria-label="{1}"><table{0}><caption class="hidden">{1}</caption>'
    "<thead><tr>{2}</tr></thead><tbody>{3}</tbody></table></div>"
)
_NUMBER = re.compile(r"^[+-]?\d+(\.\d+)?(e[+-]?\d+)?")


def _cell(text: str, column: Column, first: bool) -> Markup:
    """A cell; the first one of a row names the row."""
    number = _NUMBER.match(text)
    # What is no number stands last, wherever the table is sorted by this column.
    order = Markup(' data-sort="{}"').format(number.group() if number else "") if column.align == "right" else ""
    tag = Markup('th scope="row"') if first else Markup("td")
    return Markup('<{} class="{}"{}>{}</{}>').format(tag, column.align, order, text, tag[:2])


def _list(notes: Sequence[str]) -> Markup:
    return Markup('<ul class="notes">{}</ul>').format(Markup("").join(Markup("<li>{}</li>").format(n) for n in notes))


def _markdown_row(row: Row) -> str:
    cells = [cell.replace("|", "\\|") for cell in row.cells]
    return _line([f"**{cell}**" if row.strong and cell else cell for cell in cells])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
