"""The processes of a training watch over each other: where one dies, hangs or fails, the others end at once.

A process that waits in a collective operation learns nothing: it would wait for the half hour after which PyTorch gives
up. So every process has one more connection, to the first one. The system closes it when a process dies, and a process
that hangs sends no more signs of life.
"""

from __future__ import annotations

import _thread
import os
import secrets
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from voxward.core.errors import ProcessLost, UserError
from voxward.core.interrupt import Interrupted

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BEAT = 1.0
"""Seconds between two signs of life."""
QUIET = 40
"""A process that sends none for so many beats of another one hangs. A process that is itself stopped counts none."""
GRACE = 5.0
"""Seconds that the main thread has to end by itself; where it waits for a process that is gone, it never would."""
_BEAT, _DONE, _LOST, _LEFT = b"beat", b"done", b"lost", b"left"


@dataclass(frozen=True)
class _Place:
    """Where a process runs."""

    host: str
    pid: int
    began: str

    @classmethod
    def here(cls) -> _Place:
        return cls(socket.gethostname(), os.getpid(), _began(os.getpid()))

    def kill(self) -> None:
        """End the process, which may be a stopped one, if it runs on this machine and its number is still its own."""
        if self.began and self.host == socket.gethostname() and _began(self.pid) == self.began:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)


class Peers:
    """The other processes of a training.

    Used as a context: inside the block, the loss of a process ends this one. The first process is connected with all
    others and passes on what it learns.

    Args:
        fabric: The launched processes of the training. With a lone one, nothing is done.

    Attributes:
        lost: What is said about a process that is lost; empty where that process, or another one, says it. None as long
            as there is none.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.rank, self.world = int(fabric.global_rank), int(fabric.world_size)
        self.lost: str | None = None
        self._here, self._interrupts = _Place.here(), threading.current_thread() is threading.main_thread()
        self._done, self._lock = set[str](), threading.Lock()
        self._known, self._over = threading.Event(), threading.Event()
        self._connections, self._places, self._left = dict[int, Connection](), dict[int, _Place](), set[int]()
        if self.world > 1:
            self._connect(fabric)
            _leave_alone()

    def __enter__(self) -> Peers:
        if self.world > 1:
            threading.Thread(target=self._watch, daemon=True, name="peers").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell the others how this process ended.

        Raises:
            ProcessLost: The error is only what the loss of another process has caused.
        """
        if self.world == 1:
            return
        if self.lost is None and error is not None and _may_follow(error):
            self._known.wait(3 * BEAT)  # the connection says what has happened, if it was the other side
        self._over.set()
        if self.lost is not None and error is not None:
            raise ProcessLost(self.lost) from None
        if error is None or isinstance(error, Interrupted):
            self._tell(_LEFT)
        else:
            self._tell(_LOST, f"process {self.rank} of {self.world} failed on {self._here.host}: {error}"[:2000])

    def after_first(self, what: str) -> None:
        """Wait until the first process has come to this line, however long its work takes; it passes at once.

        Args:
            what: A name for the line.

        Raises:
            ProcessLost: Another process is lost.
        """
        if self.rank == 0:
            self._tell(_DONE, what)
            return
        while what not in self._done:
            if self.lost is not None:
                raise ProcessLost(self.lost)
            time.sleep(BEAT / 10)

    def _connect(self, fabric: Fabric) -> None:
        """Connect every process with the first one; a secret keeps strangers out."""
        address = os.environ.get("MASTER_ADDR", "127.0.0.1")
        here = address if address in ("127.0.0.1", "localhost") else ""
        key = secrets.token_bytes(32)
        listener = Listener((here, 0), backlog=self.world, authkey=key) if self.rank == 0 else None
        port, key = fabric.broadcast((0 if listener is None else listener.address[1], key))
        if listener is None:
            self._connections[0] = Client((address, port), authkey=key)
            self._introduce(self._connections[0])
            return
        with listener:
            while len(self._connections) < self.world - 1:
                with suppress(AuthenticationError, EOFError, OSError):
                    self._introduce(listener.accept())

    def _introduce(self, connection: Connection) -> None:
        own = self._here
        connection.send_bytes("\n".join((str(self.rank), own.host, str(own.pid), own.began)).encode())
        rank, host, pid, began = connection.recv_bytes(4096).decode().split("\n")
        self._connections[int(rank)], self._places[int(rank)] = connection, _Place(host, int(pid), began)

    def _tell(self, what: bytes, text: str = "") -> None:
        with self._lock:
            for connection in self._connections.values():
                with suppress(OSError):  # whoever is gone is noticed elsewhere
                    connection.send_bytes(what + text.encode())

    def _watch(self) -> None:
        """Send signs of life and listen to those of the others, until a process is lost or this one has ended."""
        quiet, sent = dict.fromkeys(self._connections, 0), 0.0
        while not self._over.is_set():
            if time.monotonic() - sent >= BEAT:
                self._tell(_BEAT)
                quiet, sent = {rank: n + 1 for rank, n in quiet.items()}, time.monotonic()
            open_ones = {self._connections[rank]: rank for rank in quiet if rank not in self._left}
            for ready in wait(list(open_ones), BEAT):
                rank = open_ones[ready]  # type: ignore[index]
                quiet[rank] = 0
                self._hear(rank)
            silent_ones = [rank for rank, n in quiet.items() if n > QUIET and rank not in self._left]
            if silent_ones and self.lost is None:
                self._lose(f"{self._named(silent_ones[0])} has not answered for {QUIET * BEAT:g} s: it hangs")
            if self.lost is not None:
                self._known.set()
                self._end(silent_ones)
                return

    def _hear(self, rank: int) -> None:
        try:
            said = self._connections[rank].recv_bytes(4096)
        except (EOFError, OSError):
            self._lose(f"{self._named(rank)} has died")
            return
        what, text = said[:4], said[4:].decode()
        if what == _DONE:
            self._done.add(text)
        elif what == _LEFT:
            self._left.add(rank)
        elif what == _LOST and self.lost is None:
            # The process that lost it, or that failed, says so itself, but perhaps on another machine.
            self.lost = "" if self._places[rank].host == self._here.host else text
            self._tell(_LOST)

    def _lose(self, text: str) -> None:
        """Note that a process is lost, and tell the others, who then say nothing themselves."""
        if self.lost is None:
            self.lost = f"{text}, so the training was ended; --resume goes on from the last validation"
            self._tell(_LOST)

    def _named(self, rank: int) -> str:
        place = self._places[rank]
        return f"process {rank} of {self.world} (number {place.pid} on {place.host})"

    def _end(self, hanging: list[int]) -> None:
        """Let the main thread end; where it cannot, end the whole process."""
        if not self._over.wait(2 * BEAT) and self._interrupts:
            _thread.interrupt_main()
        in_time = self._over.wait(GRACE)
        for rank in hanging:
            self._places[rank].kill()
        if in_time:
            return
        if self.lost:  # the main thread hangs in a collective operation, so that nobody else can say it
            print(f"error: {self.lost}", file=sys.stderr, flush=True)
        os._exit(1)


def refuse_unshared(path: Path, what: str, wait: float = 60.0) -> None:
    """Refuse to train where this process does not see what the first one has written.

    Args:
        path: A file that is there, for the first process.
        what: What it belongs to, in words.
        wait: Seconds for which a network file system may take it for absent.

    Raises:
        UserError: It is not there.
    """
    until = time.monotonic() + wait
    while not path.is_file():
        if time.monotonic() > until:
            raise UserError(
                f"{socket.gethostname()} does not see {path}, which another node has written: {what} must be on a file "
                "system that all nodes share"
            )
        time.sleep(BEAT)


def _may_follow(error: BaseException) -> bool:
    """Whether an error may be only what the loss of another process has caused."""
    return type(error) is not FloatingPointError and isinstance(error, RuntimeError | KeyboardInterrupt | OSError)


def _began(pid: int) -> str:
    """When a process of this machine began, as Linux tells it; empty where it does not."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return ""


def _leave_alone() -> None:
    """Switch off Fabric's own watch over the processes that it started, which kills this one without a word."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]
