"""A worker of a cluster: one process that does one unit at a time, and ends in good order when it is asked to."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import dask
import torch
from distributed import Status, Worker

from voxward.core.interrupt import leave, on_signal
from voxward.engine.connect import LEAVING, ClusterError, address_of
from voxward.engine.gpus import see_one
from voxward.engine.remote import clean_up, doing

T = TypeVar("T")
_LOG = logging.getLogger(__name__)  # a warning would be sent to the caller as one about its unit
_LOOK, _FETCH, _SAVE = 0.1, 300.0, 120.0
"""Seconds between two looks, until a result must have been fetched, and until a training without a scheduler must have
saved its state."""
_ENDED = (Status.closing, Status.closed, Status.failed)
_TASK = (
    "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NPROCS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS",
)  # fmt: skip
"""What SLURM says of a process that is one of several. A training that a worker does has no other process."""


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is.

    Attributes:
        scheduler: The address of the scheduler, or the file that it wrote or will write.
        resources: What the worker offers, such as {"GPU": 1}.
        name: The name that the scheduler knows it by; None: its address.
        local_directory: The folder for its own temporary files; None: one of the machine.
        timeout: The seconds until the scheduler must have answered.
    """

    scheduler: str
    resources: Mapping[str, float] = field(default_factory=dict)
    name: str | None = None
    local_directory: Path | None = None
    timeout: float = 120.0


def serve(options: WorkerOptions) -> None:
    """Do units of a scheduler in this process until a signal asks to stop.

    SIGINT, SIGTERM and SIGUSR1 let the worker finish the unit that it does and hand over its result; a training saves
    its state and stops. A second signal ends the process at once.

    Args:
        options: What the worker is.

    Raises:
        ClusterError: The scheduler does not answer, or is gone.
    """
    see_one(int(os.environ.get("SLURM_LOCALID", "0")))
    for name in _TASK:
        os.environ.pop(name, None)
    threads = os.environ.get("OMP_NUM_THREADS") or os.environ.get("SLURM_CPUS_PER_TASK", "")
    if threads.isdigit() and int(threads):
        torch.set_num_threads(int(threads))
    settings = {"distributed.admin.system-monitor.gil.enabled": False}
    try:
        with dask.config.set(settings):
            asyncio.run(_serve(options))
    finally:
        clean_up()


async def _serve(options: WorkerOptions) -> None:
    asked = _Asked()
    worker = await asked.unless(_started(options))
    if worker is None:
        return
    await asked.unless(worker.finished())
    if asked.event.is_set():
        await _drain(worker)
        return
    leave()
    await _until(lambda: not doing(), _SAVE)
    raise ClusterError(
        f"the scheduler at {worker.scheduler.address} is gone, or has sent this worker away: the worker ends"
    )


async def _started(options: WorkerOptions) -> Worker:
    address = await _address(options.scheduler, options.timeout)
    worker = Worker(
        address, nthreads=1, memory_limit=0, resources=dict(options.resources) or None, name=options.name,
        local_directory=None if options.local_directory is None else str(options.local_directory), dashboard=False,
        death_timeout=options.timeout,
    )  # fmt: skip
    try:
        await worker
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise ClusterError(f"no scheduler answers at {address}: {error}") from error
    return worker


async def _drain(worker: Worker) -> None:
    """Take no further unit, finish the one that runs, and wait until its result is fetched."""
    leave()
    worker.log_event(LEAVING, {"leaving": worker.address})
    _LOG.warning("this worker finishes what it does, and ends; a second signal ends it at once")
    await _until(lambda: worker.status in _ENDED or not _busy(worker), math.inf)
    await _until(lambda: worker.status in _ENDED or not (worker.data or _busy(worker)), _FETCH)
    await worker.close()


def _busy(worker: Worker) -> bool:
    state = worker.state
    return bool(doing() or state.executing or state.ready or state.constrained)


async def _until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        await asyncio.sleep(_LOOK)


async def _address(scheduler: str, seconds: float) -> str:
    """Wait for the file of the scheduler, which may be started later, and return the address in it."""
    if "://" in scheduler:
        return scheduler
    path, end = Path(scheduler), time.monotonic() + seconds
    while not path.is_file():
        if time.monotonic() > end:
            raise ClusterError(
                f"there is no {path} after {seconds:g} seconds: start a scheduler with dask scheduler "
                f"--scheduler-file {path}, in a folder that this machine sees"
            )
        await asyncio.sleep(_LOOK)
    return address_of(path)


class _Asked:
    """Whether a signal has asked the process to end; a second one ends it at once."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        on_signal(self.event.set, _end_at_once)

    async def unless(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of work, or None where a signal comes first."""
        task, signal = asyncio.ensure_future(work), asyncio.ensure_future(self.event.wait())
        await asyncio.wait({task, signal}, return_when=asyncio.FIRST_COMPLETED)
        signal.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return None


def _end_at_once() -> None:
    clean_up()
    os._exit(130)
