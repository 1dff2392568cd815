"""Ctrl-C, the SIGTERM of a cluster or the SIGUSR1 before its time limit end long work in good order."""

from __future__ import annotations

import asyncio
import math
import signal
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

    before = {number: signal.signal(number, note) for number in _signals()}
    try:
        yield lambda: stop.is_set() or leaving()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        for number in _signals():
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


def _signals() -> tuple[signal.Signals, ...]:
    """Windows has no SIGUSR1."""
    names = ("SIGINT", "SIGTERM", "SIGUSR1")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))
