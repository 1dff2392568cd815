"""Logs to which rows are appended: CSV files in which every row has a checksum as its last cell.

A row that a crash has cut short is left out when the log is read; one with a changed digit is an error.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Sequence
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.reading import read_csv, read_text

CHECK = "crc32"
"""The last column: the CRC-32 of the names of the other columns and of the other cells of the row. Logs of version 0.2
and earlier ones have none."""


def csv_line(cells: Sequence[object]) -> str:
    """Return a row of CSV without a line break.

    Args:
        cells: The cells; texts may hold commas, quotes and line breaks.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()[:-1]


def log_heading(columns: Sequence[str]) -> str:
    """Return the first line of a log, with its line break.

    Args:
        columns: The names of the columns.
    """
    return csv_line((*columns, CHECK)) + "\n"


def log_row(columns: Sequence[str], cells: Sequence[object]) -> str:
    """Return a row of a log with its checksum and its line break.

    Args:
        columns: The names of the columns.
        cells: The cells of the row.
    """
    return csv_line((*cells, _checksum(columns, cells))) + "\n"


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a log.

    Args:
        path: The file.
        columns: The columns that must be there, in any order.

    Returns:
        One dictionary for each row, from the column's name to the text of the cell, without the checksum. A last row
        that was cut short is left out.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is no log with these columns, or a row is damaged.
    """
    if "\n" not in read_text(path):  # the first line is written at once, with the file
        raise UserError(f"{path} is damaged: it is cut short in its first line. Restore it from a copy, or delete it")
    rows = read_csv(path, tuple(columns), log=True)
    _refuse_merged(path)
    return [_checked(path, row) for row in rows]


def _checked(path: Path, row: dict[str, str]) -> dict[str, str]:
    *names, last = row
    cells = {name: row[name] for name in names}
    right = row[last] == _checksum(names, tuple(cells.values()))
    if last != CHECK and not right:
        return row  # as in older versions
    if last != CHECK or not right:
        raise UserError(
            f"{path} is damaged, or was edited: the row {csv_line(tuple(row.values()))} below {csv_line(tuple(row))} "
            "does not have the checksum in its last cell. Restore the file from a copy, or delete that row"
        )
    return cells


def _refuse_merged(path: Path) -> None:
    """Refuse a log in which a line break of the first or last row is damaged: the next row would be lost with it."""
    first, *rest = read_text(path).split("\n")
    header = next(csv.reader([first]), [])
    merged = any(CHECK in name for name in header) and CHECK not in header
    last = next(csv.reader([rest[-1][:-1]]), []) if rest else []
    columns = [name for name in header if name != CHECK]
    if merged or (len(last) == len(header) and CHECK in header and last[-1] == _checksum(columns, last[:-1])):
        raise UserError(
            f"{path} is damaged: the end of its {'first' if merged else 'last'} line is no line break. Restore the "
            "file from a copy, or put the line break back"
        )


def _checksum(columns: Sequence[str], cells: Sequence[object]) -> str:
    text = f"{csv_line(columns)}\n{csv_line(cells)}"
    return f"{zlib.crc32(text.encode()):08x}"
