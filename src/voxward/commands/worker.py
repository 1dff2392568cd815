"""voxward worker: one process of a cluster, which does units of work for those who call commands with --cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from voxward.core.choices import Cluster
from voxward.core.errors import MissingPackageError, UserError


def worker(
    scheduler: Path | str,
    *,
    resources: Mapping[str, float] | None = None,
    name: str | None = None,
    local_directory: Path | str | None = None,
    timeout: float = 120.0,
) -> None:
    """Do units of work for a Dask scheduler, one at a time, until a signal asks to stop or the scheduler is gone.

    SIGTERM, SIGUSR1 or Ctrl-C lets the worker finish the unit that it does and hand over its result; it takes no
    further one, and a training saves its state and stops. A second signal ends it at once. Only work for a scheduler
    that you trust like a shell: a worker runs what it is sent.

    Args:
        scheduler: The address of the scheduler, `tcp://HOST:PORT`, or the file that it writes with
            `dask scheduler --scheduler-file FILE`, which need not be there yet.
        resources: What the worker offers, such as {"GPU": 1, "MEMORY": 16e9}; commands may ask for it.
        name: The name that the scheduler shows; by default its address.
        local_directory: The folder for temporary files; by default one of the machine.
        timeout: The seconds until the scheduler must have answered.

    Raises:
        UserError: The scheduler does not answer, or is gone.
        MissingPackageError: The extra `cluster` is not installed.

    Example:
        >>> voxward.worker("scheduler.json", resources={"GPU": 1})
    """
    if not 0 < timeout < math.inf:
        raise UserError(f"timeout must be a positive number of seconds, got {timeout}")
    offered = Cluster(str(scheduler), dict(resources or {})).resources
    try:
        from voxward.engine.worker import WorkerOptions, serve
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"a worker needs Dask, which is not installed ({error.name}): pip install voxward[cluster]"
        ) from error
    directory = None if local_directory is None else Path(local_directory)
    serve(WorkerOptions(str(scheduler), offered, name, directory, timeout))
