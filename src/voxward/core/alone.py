"""One process at a time in a folder: a second one is told who is there."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from voxward.core.errors import UserError
from voxward.core.invocation import typed_words

LOCK, OWNER = ".voxward.lock", ".voxward.at-work"
"""The file in a folder that is locked while a process works there, which the system frees when the process ends; and
the file that says which process that is, for messages."""


class Busy(UserError):  # noqa: N818 - it says what is the case
    """Another process works in the folder."""


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder inside the block, so that no second process works there.

    The lock is one of the operating system on the file `.voxward.lock`, so that nothing is left of a process that was
    killed. Where a file system has no such locks, the `filelock` package uses the existence of the file instead.

    Args:
        folder: The folder, which is made; it is removed again if it is empty at the end.
        what: The work, in words, such as "an attack".

    Raises:
        Busy: Another process works in the folder; the message says which one.
        UserError: The folder cannot be written into; or a process that another one starts has come here, as it reads
            the script of that one.
    """
    _refuse_start()
    path, owner = folder / LOCK, folder / OWNER
    lock = FileLock(path, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise Busy(
            f"another process works in {folder}{_named(owner)}: wait for its end, or choose another --out"
        ) from None
    except OSError as error:  # a read-only folder, one of another user, or a file in its place
        raise UserError(f"cannot write into {folder}: {error.strerror or error}; choose another --out") from error
    try:
        _sign(owner, what)
        yield
    finally:
        # While the lock is held: whoever opened the file before sees that it is gone, and makes a new one.
        for file in (owner, path):
            with suppress(OSError):  # Windows removes no file that is open
                file.unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):
            folder.rmdir()  # only an empty one: the work was refused before it wrote anything


def _refuse_start() -> None:
    """Refuse work in a process that only starts: it reads the script of its parent, which does all its work again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as the library itself asks
        raise UserError(
            'a script whose work starts other processes must call voxward below a line `if __name__ == "__main__":`, '
            "because each of them reads the script again"
        )


def _sign(path: Path, what: str) -> None:
    """Write which process holds the folder; nobody reads what a process that was killed has left."""
    words = shlex.join(typed_words()) or what
    with suppress(OSError):
        path.write_text(f"process {os.getpid()} of {socket.gethostname()}: {words}\n", encoding="utf-8")


def _named(path: Path) -> str:
    with suppress(OSError):
        return f" ({path.read_text(encoding='utf-8', errors='replace').strip()[:500]})"
    return ""
