"""Ctrl-C, a closed terminal, the SIGTERM of a cluster or the SIGUSR1 before its time limit end work in good order."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from types import FrameType

_MOMENT = 1.0
"""Seconds within which two signals may be one wish."""
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
    stop, same = threading.Event(), _Same()
    if threading.current_thread() is not threading.main_thread():
        yield leaving  # signals reach the main thread only
        return

    def note(number: int, frame: FrameType | None) -> None:
        if same(number):
            return
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


def on_signal(noted: Callable[[], None], again: Callable[[], None] = _silent) -> None:
    """Have functions called from the event loop that runs in this thread when a signal asks to stop.

    Args:
        noted: Called when the first signal comes.
        again: Called when another one comes.
    """
    loop, same, calls = asyncio.get_running_loop(), _Same(), chain((noted,), repeat(again))

    def note(number: int) -> None:
        if not same(number):
            next(calls)()

    with suppress(NotImplementedError):  # Windows
        for number in _signals("SIGINT", "SIGTERM", "SIGUSR1"):
            loop.add_signal_handler(number, note, number)


class _Same:
    """Whether a signal says only what another one has said a moment ago.

    A batch system may send the same wish twice: to the process, and through the program that started it. Whoever
    presses Ctrl-C twice means it.
    """

    def __init__(self) -> None:
        self.last = -math.inf

    def __call__(self, number: int) -> bool:
        now, before = time.monotonic(), self.last
        self.last = now
        return number != signal.SIGINT and now - before < _MOMENT


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
