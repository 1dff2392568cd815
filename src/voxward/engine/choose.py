"""Which engine does the units of a command: this process, or a cluster that the user names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxward.core.choices import Cluster
from voxward.core.errors import MissingPackageError
from voxward.engine.engine import Engine, InProcess


def local_workers(cluster: str | Path | Cluster | None) -> int | None:
    """Return how many workers `local:N` starts; 1 without a cluster, and None for one whose workers come and go."""
    chosen = Cluster.of(cluster)
    if chosen is None:
        return 1
    kind, _, count = chosen.address.partition(":")
    return int(count) if kind == "local" and count.isdecimal() and int(count) > 0 else None


@contextmanager
def engine_for(folder: Path, cluster: str | Path | Cluster | None = None, overwrite: bool = False) -> Iterator[Engine]:
    """Yield what does the units of a piece of work.

    Args:
        folder: The folder of the work.
        cluster: The cluster, or its address; None: this process.
        overwrite: Whether files that voxward did not write may be replaced there.

    Raises:
        UserError: There is no such cluster.
        MissingPackageError: The extra `cluster` is not installed.
    """
    chosen = Cluster.of(cluster)
    if chosen is None:
        yield InProcess(folder)
        return
    try:
        from voxward.engine.dask import dask_engine
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"cluster {chosen.address} needs Dask, which is not installed ({error.name}): pip install voxward[cluster]"
        ) from error
    with dask_engine(folder, chosen, overwrite) as engine:
        yield engine
