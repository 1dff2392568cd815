"""Files of the folders that a report is written from: what cannot be read is a sentence among the problems."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from voxward.core.document import without_format
from voxward.core.errors import UserError
from voxward.core.reading import read_json

T = TypeVar("T")
_LISTED = 3


def attempt(read: Callable[[], T], problems: list[str], lead: str = "A file is left out: ") -> T | None:
    """Return what a function reads; None where it cannot, which is a problem.

    Only errors of the data count: what voxward's readers refuse, and what the file system does. Every other exception
    is a bug and is raised.

    Args:
        read: Reads something.
        problems: Gets a sentence where that fails.
        lead: How the sentence begins.
    """
    try:
        return read()
    except (UserError, OSError) as error:
        problems.append(sentence(f"{lead}{told(error)}"))
        return None


def read_mapping(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    """Return the object in a JSON file without its format number; None where it cannot be read, which is a problem.

    Args:
        path: The file.
        problems: Gets a sentence where that fails.
    """

    def read() -> Mapping[str, Any]:
        found: Any = without_format(read_json(path), str(path))
        if not isinstance(found, dict):
            raise UserError(f"{path} must hold a JSON object, got {type(found).__name__}")
        if not found:
            raise UserError(f"{path} holds nothing")
        return found

    return attempt(read, problems)


def read_mapping_if_there(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    """Return the object in a JSON file as `read_mapping` does; None where there is no such file."""
    return read_mapping(path, problems) if path.is_file() else None


def told(error: Exception) -> str:
    """Return what an error says, without the number that the operating system gives it."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def command_of(description: Mapping[str, Any]) -> str:
    """Return the command, or the call from Python, that a folder names; empty where nobody could give it again.

    Args:
        description: What describes the folder. Versions before this one wrote what an open system holds into a call,
            which is no Python code then.
    """
    text = str(description.get("command", ""))
    if description.get("python") is True:
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ""
    return text


def sentence(text: str) -> str:
    """Return a text on one line that ends with a full stop."""
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else f"{line}."


def few(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
