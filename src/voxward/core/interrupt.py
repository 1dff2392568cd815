"""Ctrl-C, a closed terminal, the SIGTERM of a cluster or the SIGUSR1 before its time limit end work in good order."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_LEAVING = threading.Event()
"""Set where this whole process is to end soon, so that work in other threads than the main one ends as well."""


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Long work was stopped by a signal; what was finished is kept, and it can be resumed."""


def leave() -> None:
    """Ask all work of this process to end in good order, in whichever thread it runs."""
    _LEAVING.set()


def leaving() -> bool:
    """Return whether `leave` was called in this process."""
    return _LEAVING.is_set()


def _silent() -> None:
    """Say nothing."""


@contextmanager
def stop_on_signal(noted: Callable[[], None] = _silent) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal has asked to stop; a second Ctrl-C interrupts at once.

    Args:
        noted: Called when the first signal comes, for example to tell the user what is still being done.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield leaving  # signals reach the main thread only
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        noted()

    with _handled(note, _signals("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")):
        yield lambda: stop.is_set() or leaving()


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and the SIGHUP of a closed terminal raise KeyboardInterrupt inside the block, as Ctrl-C does.

    So what is half written is removed, and the exit code is that of an interruption.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled(interrupt, _signals("SIGTERM", "SIGHUP")):
        yield


def ignore_signals() -> None:
    """Leave every signal that ends work to the process that this one works for, which ends this one, too."""
    for number in _signals("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Handle signals inside the block, but for those that are ignored, as `nohup` has it with SIGHUP."""

    def note(number: int, frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            _leave_terminal()
        handler(number, frame)

    heard = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _leave_terminal() -> None:
    """Print nothing more where a terminal was closed: each attempt would be an error, in the middle of the work."""
    for stream in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)


def _signals(*names: str) -> tuple[signal.Signals, ...]:
    """Those of some signals that this system has: Windows has no SIGHUP and no SIGUSR1."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))
