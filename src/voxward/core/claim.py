"""Claims on pieces of work that several processes and machines share on one file system."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.files import write_text
from voxward.core.process import runs, this_host


@contextmanager
def claim(path: Path, expires: float = 300.0) -> Iterator[bool]:
    """Claim a piece of work, so that only one process does it at a time.

    The file at `path` holds the host, the process number and a token. A thread touches it every expires / 4 seconds,
    and it is removed on exit. A claim is dead if it was not touched for `expires` seconds, or if its process has ended
    on this host; another process then takes it over. A process that stands still for longer than `expires` loses its
    claim without knowing, so whatever is written under a claim must be harmless to write twice.

    Args:
        path: The file that stands for the work.
        expires: Seconds without a sign of life after which the claim is dead, above 0.

    Yields:
        True if this process now has the claim, False if another living process has it.

    Raises:
        UserError: `expires` is not a positive number.
    """
    if not (math.isfinite(expires) and expires > 0):
        raise UserError(f"expires must be a positive number of seconds, got {expires}")
    token = f"{this_host()}\n{os.getpid()}\n{uuid.uuid4().hex}\n"
    if not (_create(path, token) or _take_over(path, token, expires)):
        yield False
        return
    stop = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(path, token, expires / 4, stop), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        stop.set()
        beat.join()
        if _read(path) == token:
            path.unlink(missing_ok=True)


def _create(path: Path, token: str) -> bool:
    """Return whether the claim was free; only this function writes without a rename, because O_EXCL is the point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(token)
    return True


def _take_over(path: Path, token: str, expires: float) -> bool:
    """Replace a dead claim by ours.

    If two processes see the same dead claim, they must not both replace it, because the second one would replace the
    living claim of the first. So one of the two looks again, and replaces the claim while it holds a second claim on
    the take-over itself, which obeys the same rules.
    """
    if not _dead(path, expires):
        return False
    with claim(path.with_name(f"{path.name}.takeover"), expires) as mine:
        if not (mine and _dead(path, expires)):
            return False
        write_text(path, token)
        return True


def lives_here(path: Path) -> bool:
    """Return whether a claim is that of a process which runs on this host.

    Args:
        path: The file that stands for the work.
    """
    token = _read(path)
    return token.partition("\n")[0] == this_host() and _alive(token)


def _dead(path: Path, expires: float) -> bool:
    """Return whether no process renews the claim; False for a claim that is gone, which means finished work."""
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return False
    return _now(path.parent) - touched > expires or not _alive(_read(path))


def _now(folder: Path) -> float:
    """The file system's own clock: another machine's may differ by more than a claim lasts."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as probe:
        return os.fstat(probe.fileno()).st_mtime


def _alive(token: str) -> bool:
    """Return whether the process of a claim may be running; another host's, or one not written yet, counts as alive."""
    host, _, rest = token.partition("\n")
    number = rest.partition("\n")[0]
    return host != this_host() or not number.isdigit() or runs(int(number))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _heartbeat(path: Path, token: str, pause: float, stop: threading.Event) -> None:
    """Touch the claim while it is ours."""
    while not stop.wait(pause) and _read(path) == token:
        with suppress(OSError):
            os.utime(path)
