"""Names of files that are being written, and the removal of what a process that is gone has left unfinished."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from voxward.core.process import runs, this_host

PREFIX = ".unfinished-"
DAY = 24 * 3600.0
"""Seconds after which what another machine's process has not finished is taken for abandoned."""

# The host, the process, and a random number. Versions before 0.3 wrote the random number alone.
_NAME = re.compile(re.escape(PREFIX) + r"(?:([0-9a-f]{8})\.(\d{1,9})\.)?[0-9a-f]{8}-")
# What the safetensors library writes before it renames, and leaves in a folder of checkpoints if it is killed.
_SAFETENSORS = re.compile(r"\.tmp[A-Za-z0-9]{6}$")


def unfinished_name(name: str) -> str:
    """Return a name, never used before, for a file or folder that is being written.

    It ends like the name, and says which process writes it. It is at most 42 characters longer.

    Args:
        name: The name that it will have in the end, or itself a name from here.
    """
    own = name[found.end() :] if (found := _NAME.match(name)) else name
    return f"{PREFIX}{_host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}-{own}"


def remove_leftovers(folder: Path) -> None:
    """Remove from a folder what processes that are gone have left unfinished.

    What a living process of this machine writes stays, and so does, for a day, what may belong to another machine's.

    Args:
        folder: The folder; its subfolders are not looked at. It need not exist.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if path.name.startswith(".") and _abandoned(path):
                remove(path)


@lru_cache(maxsize=4096)
def remove_leftovers_once(folder: Path, process: int) -> None:
    """Remove the leftovers of a folder when a process writes into it for the first time.

    Args:
        folder: The folder.
        process: The number of this process, which has a memory of its own after a fork.
    """
    remove_leftovers(folder)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that it holds; an error is not reported.

    Args:
        path: The file or folder, which need not exist.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _abandoned(path: Path) -> bool:
    if (found := _NAME.match(path.name)) is not None:
        host, number = found.groups()
        if host is None:
            return True
        if host == _host():
            return not runs(int(number))
        return _old(path)
    return _SAFETENSORS.match(path.name) is not None and path.parent.name == "checkpoints" and _old(path)


def _old(path: Path) -> bool:
    """Return whether it is old by the clock of the file system, because that of this machine may be wrong."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            return os.fstat(probe.fileno()).st_mtime - path.lstat().st_mtime > DAY
    except OSError:
        return False


@lru_cache(maxsize=1)
def _host() -> str:
    return hashlib.sha256(this_host().encode()).hexdigest()[:8]
