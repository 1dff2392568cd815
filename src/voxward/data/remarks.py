"""Remarks on a file that was read all the same: warnings, unless somebody collects them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

# Both belong to one thread: volumes are read in several at once.
_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


def remark(path: Path, message: str) -> None:
    """Say something about a file that was read.

    Args:
        path: The file.
        message: What a user should know of it, which begins with a verb.
    """
    found = _collected.get()
    if found is None:
        warnings.warn(f"{path} {message}", stacklevel=3)
    else:
        found.append(f"{path} {message}")


@contextmanager
def collected() -> Iterator[list[str]]:
    """Collect the remarks of this thread within the context, instead of warning.

    Yields:
        The list that they are put into.
    """
    found: list[str] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep nibabel's log silent in this thread: it prints what it mends in a header, but not in which file.

    What matters of that is said by `data.nifti_geometry` and `data.check_geometry`, with the file.
    """
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def _passes(record: logging.LogRecord) -> bool:
    return not _quiet.get()


logging.getLogger("nibabel.global").addFilter(_passes)
