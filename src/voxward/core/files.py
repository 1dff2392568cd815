"""How files reach the disk: each is written beside its target and then renamed, so that no reader sees half a file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.leftovers import remove, remove_leftovers_once, unfinished_name

# File systems allow 255 bytes in a name, of which a temporary name puts up to 42 in front. A name itself leaves room
# for the suffix of a file.
_LONGEST_FILE, _LONGEST_NAME = 213, 200
# Control characters, and the separators of lines and paragraphs.
_BREAKING = ("Cc", "Zl", "Zp")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def name_fault(name: str, longest: int = _LONGEST_NAME) -> str | None:
    r"""Say why a text cannot be the name of a file or folder on every system.

    Legal is any text of 1 to `longest` bytes (UTF-8) without a path separator of any system (/, \ and :) and without
    control characters. It does not begin with a dot, does not end with a dot or blank, and is not a device of Windows
    (NUL, COM1, ..., with or without a suffix).

    Args:
        name: The text.
        longest: The greatest number of bytes.

    Returns:
        The reason, such as "it is empty"; None if the name is legal.
    """
    if not name:
        return "it is empty"
    if "/" in name or "\\" in name or ":" in name:
        return "it holds a path separator (/, \\ or :)"
    if any(unicodedata.category(character) in _BREAKING for character in name):
        return "it holds a control character"
    if name.startswith("."):
        return "it begins with a dot"
    if name.endswith((".", " ")):
        return "it ends with a dot or a blank"
    if name.split(".")[0].strip().lower() in _RESERVED:
        return "it is a reserved name on Windows"
    if len(name.encode("utf-8", "surrogatepass")) > longest:
        return f"it is longer than {longest} bytes"
    return None


def inside(folder: Path | str, name: str) -> Path:
    """Return the path of the file or folder `name` directly inside `folder`.

    Every path that is made from a name of unknown origin (a case, a dataset, a run) is made here.

    Args:
        folder: The folder, which need not exist.
        name: The name of the file or folder.

    Raises:
        UserError: `name` is not a plain file name (see `name_fault`), so the path might lie outside the folder.
    """
    if (fault := name_fault(name, _LONGEST_FILE)) is not None:
        raise UserError(f"{name!r} cannot be the name of a file in {folder}: {fault}")
    return Path(folder) / name


def _never(folder: Path) -> bool:
    return False


@contextmanager
def atomic_write(target: Path | str, replaceable: Callable[[Path], bool] = _never) -> Iterator[Path]:
    """Yield a temporary path beside `target`, which is renamed to `target` on success and removed on any error.

    The caller creates a file or a folder at the temporary path, whose name ends like the target's, so that readers and
    writers that go by the suffix keep working. What processes that are gone have left unfinished in the folder is
    removed. An existing file is replaced. An existing folder is replaced as a whole
    if it is empty, or if `replaceable` says that nothing in it would be lost.

    Args:
        target: Where the file or folder goes; its parent folder is made.
        replaceable: Whether an existing folder with contents may be replaced; by default it may not.

    Yields:
        The temporary path.

    Raises:
        FileExistsError: The target is a folder with contents that must stay; nothing is changed.
    """
    target = Path(target)
    _refuse_folder(target, replaceable)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_once(target.parent, os.getpid())
    unfinished = target.with_name(unfinished_name(target.name))
    try:
        yield unfinished
        _flush(unfinished)
        _refuse_folder(target, replaceable)
        _replace(unfinished, target)
    except BaseException:
        remove(unfinished)
        raise


def write_text(target: Path | str, text: str) -> None:
    """Write a text to a file atomically, as UTF-8.

    Args:
        target: The file, which is replaced if it exists.
        text: The text.
    """
    with atomic_write(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: Path | str, value: Any) -> None:
    """Write a value to a file atomically, as indented JSON.

    Args:
        target: The file, which is replaced if it exists.
        value: Plain data.

    Raises:
        ValueError: The value holds NaN or infinity.
    """
    write_text(target, json.dumps(value, indent=1, allow_nan=False) + "\n")


def append_text(target: Path | str, text: str) -> None:
    """Append a text to a log in one write.

    Args:
        target: The log, which is made if it does not exist.
        text: The text, as UTF-8.
    """
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(text)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the contents of a file, in hexadecimal digits.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_unwritable(folder: Path | str) -> None:
    """Refuse a folder in which no file can be made, before any work; nothing stays of the try.

    Args:
        folder: The folder, which need not exist.

    Raises:
        UserError: Its file system is read-only or full, or the user may not write there.
    """
    place = Path(folder)
    there = next(each for each in (place, *place.parents, Path()) if each.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}): choose another --out") from error


@contextmanager
def telling_of_a_full_disk(path: Path, needed: int = 0) -> Iterator[None]:
    """Raise the error of the disk where a library that writes hides it behind an error of its own.

    Args:
        path: The file that is written inside the block.
        needed: The bytes that it takes at most: with less room than that, a failure is the disk's.

    Raises:
        OSError: The disk is full, or failed otherwise.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def _flush(path: Path) -> None:
    """Force a file, or every file of a folder, to the disk: a crash may keep a rename and lose the contents."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())


def _refuse_folder(target: Path, replaceable: Callable[[Path], bool]) -> None:
    if target.is_dir() and any(target.iterdir()) and not replaceable(target):
        raise FileExistsError(f"{target} is a folder that holds other files: it is not replaced; remove or rename it")


def _replace(unfinished: Path, target: Path) -> None:
    if unfinished.is_dir() and target.is_dir():
        # A folder cannot be renamed over a folder that has contents: the old one steps aside first.
        old = target.with_name(unfinished_name(f"old-{target.name}"))
        try:
            target.rename(old)
            unfinished.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        remove(old)
    else:
        os.replace(unfinished, target)
