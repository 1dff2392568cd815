"""What a worker of a cluster does with a unit that it is sent."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import get_worker
from distributed.protocol.pickle import dumps, loads

import voxward
from voxward.core.errors import UserError
from voxward.core.interrupt import Interrupted, leaving
from voxward.engine.delivery import Place, packed
from voxward.engine.engine import Doer, Unfit

_REPORTS = 0.5
"""Seconds between two reports of a worker on one unit."""
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Order:
    """What a unit is sent with.

    Attributes:
        key: The key of the unit.
        token: The name of what does it: a worker keeps the last one, with the systems that it has opened.
        place: The folder of the work.
        start: The folder that relative paths start from.
        topic: The name that steps within the unit are reported under.
        version: The version of voxward where the work was started.
    """

    key: str
    token: str
    place: Place
    start: str
    topic: str
    version: str


@dataclass(frozen=True)
class Outcome:
    """What comes back of a unit.

    Attributes:
        result: The result; None where there is an error.
        error: What went wrong.
        files: The files that belong to the result, by their places, where the worker does not see the folder.
        warned: The warnings that were given, with their kinds.
        where: The machine and the process.
    """

    result: Any = None
    error: Exception | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    warned: tuple[tuple[str, type[Warning]], ...] = ()
    where: str = ""


class _Held:
    """The last doer that this process was sent, and the folder that it writes into where it sees no other."""

    token: str = ""
    doer: Doer[Any, Any] | None = None
    scratch: Path | None = None


def do(unit: Any, doer: Doer[Any, Any], order: Order) -> Outcome:
    """Do a unit; an error is a part of the outcome, so that it is the caller who judges it.

    Args:
        unit: The unit.
        doer: What does it; a worker that has one of the same token already goes on with that one.
        order: What it is sent with.
    """
    where = f"process {os.getpid()} of {socket.gethostname()}"
    with _ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result, error, files = None, None, dict[str, bytes]()
        try:
            result, files = _done(unit, doer, order)
            loads(dumps(result))  # else Dask could not deliver it, and the caller would wait
        except (Exception, SystemExit) as raised:  # sys.exit in a unit would end the worker
            result, files, error = None, {}, _portable(raised)
    warned = tuple(dict.fromkeys((str(each.message), each.category) for each in caught))
    return Outcome(result, error, files, warned, where)


def _done(unit: Any, doer: Doer[Any, Any], order: Order) -> tuple[Any, dict[str, bytes]]:
    if leaving():
        raise Interrupted("this worker ends")
    if order.version != voxward.__version__:
        raise Unfit(f"voxward is {voxward.__version__} here, and {order.version} where the work was started")
    with suppress(OSError):  # where there is no such folder, relative paths are not found, and that is said
        os.chdir(order.start)
    if _Held.token != order.token:
        _Held.doer = None  # frees the memory of the last one before the next one takes its own
        _Held.token, _Held.doer = order.token, doer
    assert _Held.doer is not None
    shared = order.place.seen
    folder = order.place.folder if shared else _scratch()
    try:
        result = _Held.doer.do(unit, folder, _Reports(order))
    except BaseException:
        if not shared:
            packed(folder)
        raise
    return result, {} if shared else packed(folder)


def _scratch() -> Path:
    """Return an empty folder of this process."""
    if _Held.scratch is None or not _Held.scratch.is_dir():
        _Held.scratch = Path(tempfile.mkdtemp(prefix="voxward-"))
    return _Held.scratch


def doing() -> bool:
    """Return whether this process does a unit."""
    return _ONE_AT_A_TIME.locked()


def clean_up() -> None:
    """Remove the folder of this process; called when a worker ends."""
    if _Held.scratch is not None:
        shutil.rmtree(_Held.scratch, ignore_errors=True)


def _portable(error: Exception | SystemExit) -> Exception:
    """Return an error that can be sent, with the lines of code where it arose."""
    lines = "".join(traceback.format_exception(error))
    sent = error if isinstance(error, Exception) and _arrives(error) else _like(error)
    if not isinstance(sent, Unfit | Interrupted):
        sent.add_note(f"on {socket.gethostname()}:\n{lines}")
    return sent.with_traceback(None)


def _arrives(error: Exception) -> bool:
    """Whether an error can be sent, and read again: one with arguments of its own often cannot."""
    try:
        return type(loads(dumps(error))) is type(error)
    except Exception:
        return False


def _like(error: BaseException) -> Exception:
    """Return an error of a plain kind that says the same; what a user can mend stays that."""
    return UserError(str(error)) if isinstance(error, UserError) else RuntimeError(f"{type(error).__name__}: {error}")


class _Reports:
    """Sends steps within a unit to the caller, not more often than a person reads them; it is a Progress."""

    def __init__(self, order: Order) -> None:
        self.order, self.last = order, 0.0

    def __call__(self, stage: str, done: int, total: int | None, /, **figures: float | str) -> None:
        now = time.monotonic()
        if now - self.last < _REPORTS:
            return
        self.last = now
        told = {name: value if isinstance(value, str) else float(value) for name, value in figures.items()}
        get_worker().log_event(self.order.topic, {"key": self.order.key, "step": [stage, done, total], "figures": told})
