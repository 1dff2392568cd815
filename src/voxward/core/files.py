"""The only way anything reaches the disk: written beside its target, then renamed; no reader sees half a file."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is renamed to `target`, on any error removed.

    The caller creates a file or a folder at the temporary path, whose name ends like the target's (readers and
    writers that go by the suffix keep working). An existing target is replaced; a folder is replaced as a whole.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".unfinished-{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        yield unfinished
        _flush(unfinished)
        _replace(unfinished, target)
    except BaseException:
        _remove(unfinished)
        raise


def write_text(target: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `target`, atomically."""
    with atomic_write(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `target`, atomically. NaN and infinity are refused (ValueError)."""
    write_text(target, json.dumps(value, indent=1, allow_nan=False) + "\n")


def append_text(target: Path | str, text: str) -> None:
    """Append `text` to a log in one write, creating the file when needed."""
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(text)


def _flush(path: Path) -> None:
    """Force a file, or every file of a folder, to the disk: a rename may outlive a crash that the contents do not."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())


def _replace(unfinished: Path, target: Path) -> None:
    if unfinished.is_dir() and target.is_dir():
        # A folder cannot be renamed over a folder that has contents: the old one steps aside first.
        old = target.with_name(f".unfinished-{uuid.uuid4().hex[:8]}-old-{target.name}")
        try:
            target.rename(old)
            unfinished.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        shutil.rmtree(old)
    else:
        os.replace(unfinished, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
