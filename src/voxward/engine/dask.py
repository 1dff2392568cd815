"""The engine that does units on the workers of a Dask cluster, which may come and go at any time."""

from __future__ import annotations

import hashlib
import os
import queue
import secrets
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from distributed import CancelledError, Client, Future, KilledWorker
from distributed.protocol.pickle import dumps

import voxward
from voxward.core.alone import Busy
from voxward.core.choices import Cluster
from voxward.core.errors import UserError
from voxward.core.interrupt import Interrupted, stop_on_signal
from voxward.core.wording import counted
from voxward.engine.connect import LEAVING, ClusterError, client_of, replace_lost
from voxward.engine.delivery import Place, deliver, place_of
from voxward.engine.engine import Unfit, Watch, Work
from voxward.engine.queue import UnitQueue
from voxward.engine.remote import Order, Outcome, do

U = TypeVar("U")
_LOOK, _PAUSE, _FETCH = 0.5, 5.0, 5.0
"""Seconds between two looks at the workers, before a unit is tried again, and after which it is asked whether the
worker that holds a result is still there."""


class WorkerLost(UserError):  # noqa: N818 - it says what happened
    """Several workers ended while they did a unit."""


@contextmanager
def dask_engine(folder: Path, cluster: Cluster, overwrite: bool = False) -> Iterator[DaskEngine]:
    """Connect to a cluster, or start one on this machine, and yield its engine; at the end it is left or stopped.

    Args:
        folder: The folder of the work.
        cluster: The cluster.
        overwrite: Whether files that voxward did not write may be replaced there.

    Raises:
        ClusterError: There is no such cluster.
    """
    with client_of(cluster) as client, place_of(folder) as place:
        yield DaskEngine(client, place, cluster, overwrite)


@dataclass(frozen=True, eq=False)
class DaskEngine:
    """Does units on the workers of a Dask cluster; implements engine.Engine.

    Attributes:
        client: The connection to the scheduler.
        place: The folder of the work.
        cluster: What a unit needs, and how often it is tried.
        overwrite: Whether files that voxward did not write may be replaced.
    """

    client: Client
    place: Place
    cluster: Cluster
    overwrite: bool = False

    def run(self, units: Sequence[U], work: Work[U, Any], watch: Watch[U]) -> None:
        """Do every unit that is not finished, several at once; see `engine.Engine.run`.

        Raises:
            ClusterError: The scheduler is gone, no worker can do the units, or the work cannot be sent to another
                process.
        """
        waiting = [unit for unit in units if not work.finished(unit)]
        if not waiting:
            return
        try:
            token = hashlib.sha256(dumps(work.doer)).hexdigest()
        except Exception as error:
            raise ClusterError(f"this work cannot be sent to other processes: {error}") from error
        topic, news = f"voxward-{secrets.token_hex(8)}", queue.SimpleQueue[_News]()
        round = _Round(self, work, watch, UnitQueue(waiting, work.group), token, topic, news)
        for each in (topic, LEAVING):
            self.client.subscribe_topic(each, lambda event: news.put(_News(told=event[1])))
        try:
            with stop_on_signal(round.say_what_is_finished) as stop:
                round.go(stop)
        finally:
            round.cancel()
            for each in (topic, LEAVING):
                with suppress(Exception):
                    self.client.unsubscribe_topic(each)


@dataclass(frozen=True)
class _News:
    """Something that another thread has heard: a unit that ended, or what a worker told."""

    future: Future | None = None
    told: Any = None


@dataclass(frozen=True)
class _Flight(Generic[U]):
    """A unit that a worker does."""

    unit: U
    worker: str
    future: Future


@dataclass(eq=False)
class _Round(Generic[U]):
    """One call of `DaskEngine.run`."""

    engine: DaskEngine
    work: Work[U, Any]
    watch: Watch[U]
    waiting: UnitQueue[U]
    token: str
    topic: str
    news: queue.SimpleQueue[_News]
    flying: dict[str, _Flight[U]] = field(default_factory=dict)
    later: list[tuple[float, U]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    lost: Counter[str] = field(default_factory=Counter)
    _looked: float = -_LOOK
    _workers: Mapping[str, Any] = field(default_factory=dict)
    _alone_since: float | None = None
    _warned: set[str] = field(default_factory=set)

    def go(self, stop: Any) -> None:
        """Give units to workers and keep their results, until all are finished or a signal asks to stop."""
        while self.flying or ((self.waiting or self.later) and not stop()):
            self._look()
            if not stop():
                self._send()
            with suppress(queue.Empty):
                self._hear(self.news.get(timeout=_LOOK))
                while True:
                    self._hear(self.news.get_nowait())
        if stop():
            raise Interrupted("what was finished is kept; give the same command again to go on")

    def say_what_is_finished(self) -> None:
        """Tell the user what a first Ctrl-C does."""
        count = len(self.flying)
        text = (
            f"{counted(count, 'unit')} on the workers {'is' if count == 1 else 'are'} finished first, no other is begun"
        )
        warnings.warn(f"{text}; a second Ctrl-C or signal stops at once, and what runs is lost", stacklevel=2)

    def cancel(self) -> None:
        """Let go of what still runs."""
        for flight in self.flying.values():
            with suppress(Exception):
                flight.future.cancel(force=True)
            self.watch.end(flight.unit)
        self.flying.clear()

    def _look(self) -> None:
        """See which workers there are, and take back the units of those that are gone."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        self._workers = _workers(self.engine.client)
        replace_lost(self.engine.client)
        for key, flight in list(self.flying.items()):
            if flight.worker not in self._workers:
                self._lose(key, flight)
        for due, unit in list(self.later):
            if due <= now:
                self.later.remove((due, unit))
                self.waiting.put_back(unit)
        self._refuse_to_wait(now)

    def _refuse_to_wait(self, now: float) -> None:
        """Say why nothing runs; where every worker has refused, it never will."""
        usable = self._usable()
        if usable or self.flying:
            self._alone_since = None
            return
        if self._workers and all(worker in self.refused for worker in self._workers):
            listed = "; ".join(sorted(set(self.refused.values())))
            raise ClusterError(f"no worker of {self.engine.cluster.address} can do this work: {listed}")
        self._alone_since = self._alone_since or now
        if now - self._alone_since > _PAUSE and "wait" not in self._warned:
            self._warned.add("wait")
            asked = self.engine.cluster.resources
            needs = f" that offers {', '.join(f'{k}={v:g}' for k, v in asked.items())}" if asked else ""
            warnings.warn(f"waiting for a worker{needs}: {len(self._workers)} are there, none is fit", stacklevel=2)

    def _usable(self) -> list[str]:
        """The workers that may be given units."""
        asked = self.engine.cluster.resources
        return [
            address
            for address, worker in self._workers.items()
            if address not in self.refused
            and address not in self.leaving
            and all(worker.get("resources", {}).get(name, 0) >= amount for name, amount in asked.items())
        ]

    def _send(self) -> None:
        """Give a unit to every worker that has none."""
        busy = {flight.worker for flight in self.flying.values()}
        for worker in self._usable():
            if worker in busy:
                continue
            unit = self._next(worker)
            if unit is None:
                return
            self._send_to(worker, unit)

    def _next(self, worker: str) -> U | None:
        """The next unit for a worker; none whose case has failed since the round began."""
        while (unit := self.waiting.take(worker)) is not None and self.work.finished(unit):
            pass
        return unit

    def _send_to(self, worker: str, unit: U) -> None:
        key, engine = f"{self.topic}-{secrets.token_hex(8)}", self.engine
        order = Order(self.work.key(unit), self.token, engine.place, os.getcwd(), self.topic, voxward.__version__)
        future = engine.client.submit(
            do, unit, self.work.doer, order, key=key, workers=[worker], pure=False,
            resources=dict(engine.cluster.resources) or None,
        )  # fmt: skip
        self.flying[key] = _Flight(unit, worker, future)
        self.watch.begin(unit)
        future.add_done_callback(lambda done: self.news.put(_News(done)))

    def _hear(self, news: _News) -> None:
        if news.future is not None:
            self._land(news.future)
        elif "leaving" in news.told:
            self.leaving.add(news.told["leaving"])
        else:
            stage, done, total = news.told["step"]
            for flight in self.flying.values():
                if self.work.key(flight.unit) == news.told["key"]:
                    self.watch.told(flight.unit, stage, done, total, news.told["figures"])

    def _land(self, future: Future) -> None:
        """Keep the outcome of a unit, or see to it that it is done again."""
        flight = self.flying.get(future.key)
        if flight is None:
            return
        error = future.exception(timeout=_FETCH) if future.status == "error" else None
        if error is not None and not isinstance(error, KilledWorker):  # it cannot even read what it was sent
            del self.flying[future.key]
            self._refuse(flight, f"{flight.worker}: {error!r}")
            self.watch.end(flight.unit)
            return
        outcome = None if error is not None else self._fetched(flight)
        if outcome is None:
            self._lose(future.key, flight)
            return
        del self.flying[future.key]
        self._keep(flight, outcome)
        self.watch.end(flight.unit)

    def _fetched(self, flight: _Flight[U]) -> Outcome | None:
        """Return what a worker has done; None where it ended between the end of the unit and its delivery.

        Dask itself would wait for ever for a worker that is gone, as no other one may do the unit.
        """
        while flight.future.status != "cancelled":
            try:
                outcome: Outcome = flight.future.result(timeout=_FETCH)
            except (TimeoutError, OSError, CancelledError):
                self._workers = _workers(self.engine.client)
                if flight.worker not in self._workers:
                    return None
            else:
                return outcome
        self._workers = _workers(self.engine.client)  # where the scheduler is gone, this says so
        return None

    def _keep(self, flight: _Flight[U], outcome: Outcome) -> None:
        for text, kind in outcome.warned:
            if text not in self._warned:
                self._warned.add(text)
                warnings.warn(text, kind, stacklevel=2)
        error, unit = outcome.error, flight.unit
        if error is None:
            deliver(self.engine.place.folder, outcome.files, self.engine.overwrite)
            self.work.accept(unit, outcome.result)
        elif isinstance(error, Unfit):
            self._refuse(flight, f"{outcome.where}: {error}")
        elif isinstance(error, Interrupted):
            self.leaving.add(flight.worker)
            self.waiting.put_back(unit)
        elif isinstance(error, Busy):  # a process that is taken for lost still works there
            self.later.append((time.monotonic() + _PAUSE, unit))
            if str(error) not in self._warned:
                self._warned.add(str(error))
                warnings.warn(f"{outcome.where}: {error}; it is tried again until that one ends", stacklevel=2)
        else:
            self.work.failed(unit, error)

    def _refuse(self, flight: _Flight[U], reason: str) -> None:
        """Give nothing more to a worker that cannot do units, and its unit to another one."""
        self.refused[flight.worker] = reason
        self.waiting.forget(flight.worker)
        self.waiting.put_back(flight.unit)
        warnings.warn(f"a worker is given no units: {reason}", stacklevel=2)

    def _lose(self, key: str, flight: _Flight[U]) -> None:
        """Do a unit again whose worker is gone, unless it has cost too many workers."""
        del self.flying[key]
        with suppress(Exception):
            flight.future.cancel(force=True)
        self.waiting.forget(flight.worker)
        name = self.work.key(flight.unit)
        self.lost[name] += 1
        if self.lost[name] < self.engine.cluster.attempts:
            self.waiting.put_back(flight.unit)
        else:
            text = f"{counted(self.lost[name], 'worker')} ended while doing it, the last one {flight.worker}: did they"
            self.work.failed(flight.unit, WorkerLost(f"{text} have too little memory, or too little time?"))
        self.watch.end(flight.unit)


def _workers(client: Client) -> Mapping[str, Any]:
    """The workers of a cluster by their addresses."""
    try:
        # Not client.scheduler_info: Dask replaces what that returns every two seconds by a list without workers.
        found: Mapping[str, Any] = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    except Exception as error:
        raise ClusterError(
            f"the scheduler is gone ({error}): what was finished is kept; give the same command again to go on"
        ) from error
    if client.status not in ("running", "connecting"):
        raise ClusterError("the scheduler is gone: what was finished is kept; give the same command again to go on")
    return found
