"""Ctrl-C, the SIGTERM of a cluster or the SIGUSR1 before its time limit end long work in good order."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_LEAVING = threading.Event()
"""Set where this whole process is to end soon, so that work in other threads than the main one ends as well."""
SAME = 1.0
"""Seconds within which two signals are one: a batch system, `timeout` or `srun` may send the same wish twice."""


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
    stop, first = threading.Event(), [0.0]
    if threading.current_thread() is not threading.main_thread():
        yield leaving  # signals reach the main thread only
        return

    def note(number: int, frame: FrameType | None) -> None:
        if not stop.is_set():
            first[0] = time.monotonic()
            stop.set()
            noted()
        elif time.monotonic() - first[0] > SAME:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in _signals()}
    try:
        yield lambda: stop.is_set() or leaving()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def on_signal(note: Callable[[], None]) -> None:
    """Call a function from the event loop that runs in this thread whenever a signal asks to stop.

    Args:
        note: The function.
    """
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # Windows
        for number in _signals():
            loop.add_signal_handler(number, note)


def _signals() -> tuple[signal.Signals, ...]:
    """Windows has no SIGUSR1."""
    names = ("SIGINT", "SIGTERM", "SIGUSR1")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))
