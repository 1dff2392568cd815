"""Reads text files that a user may have edited or that may be damaged: every fault names the file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError


def read_text(path: Path | str) -> str:
    """Read a text file in UTF-8, with or without the mark that some programs of Windows put at its beginning.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file holds bytes that are not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8: {error}") from error


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is not JSON, or has a key twice in one object: one of the two would be lost.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_object)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"the key {twice!r} is there twice in one object")
    return found


def read_csv(path: Path | str, columns: tuple[str, ...] = (), log: bool = False) -> list[dict[str, str]]:
    """Read a CSV file whose first row names its columns.

    Args:
        path: The file.
        columns: The columns that must be there, in any order.
        log: Whether it is a log, whose last line counts only if it ends with a line break: a full disk or the end of
            the process has cut it short.

    Returns:
        One dictionary for each row, from the column's name to the text of the cell.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is no CSV file, lacks a column, or has a row with too few or too many cells.
    """
    text = read_text(path)
    if log and text:
        text = text[: text.rfind("\n") + 1]
        if not text:
            return []
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row] or [[]]
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file: {error}") from error
    lacking = [name for name in columns if name not in header]
    if lacking:
        asked = f"column{'s' * (len(columns) > 1)} {', '.join(map(repr, columns))}"
        raise UserError(f"{path} must be a CSV file with the {asked}, got {header}")
    for row in rows:
        if len(row) != len(header):
            raise UserError(f"{path} has {len(header)} columns, but a row of {len(row)} cells: {row}")
    return [dict(zip(header, row, strict=True)) for row in rows]
