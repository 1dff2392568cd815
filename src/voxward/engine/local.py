"""What the processes of `local:N` do when they start; Dask imports this module in each of them, and calls it."""

from __future__ import annotations

from distributed import Worker

from voxward.core.interrupt import leave, on_signal
from voxward.engine.connect import LEAVING
from voxward.engine.gpus import see_one


def dask_setup(worker: Worker) -> None:
    """Let a worker see one GPU, and outlive the signals that ask its caller to stop.

    A Ctrl-C in a terminal, or the SIGTERM of a batch system, reaches the workers as well as their caller. The unit that
    runs is finished, or a training saves its state and stops; it is the caller that ends the workers.

    Args:
        worker: The worker of this process; its name is its number.
    """
    see_one(int(worker.name))

    def note() -> None:
        leave()
        worker.log_event(LEAVING, {"leaving": worker.address})

    on_signal(note, note)
