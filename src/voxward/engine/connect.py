"""How a Dask cluster is reached, or started on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from distributed import Client, LocalCluster

from voxward.core.choices import Cluster
from voxward.core.errors import UserError
from voxward.core.reading import read_json

LEAVING = "voxward-leaving"
"""The topic under which a worker says that it takes no further unit, with its address."""
_CONNECT, _RESTART = 30.0, 120.0
"""Seconds until a scheduler must have answered, and until a process of `local:N` that has died must be back."""

_SCHEMES = ("tcp://", "tls://", "ws://", "wss://", "ucx://")


class ClusterError(UserError):
    """The cluster cannot be used, or is gone."""


@contextmanager
def client_of(cluster: Cluster) -> Iterator[Client]:
    """Yield the connection to a cluster; one of this machine is started, and stopped at the end.

    Args:
        cluster: The cluster.

    Raises:
        ClusterError: There is no such cluster.
    """
    kind, _, rest = cluster.address.partition(":")
    if kind == "local":
        with _local(cluster, rest) as started, Client(started, set_as_default=False) as client:
            yield client
        return
    with _connected(cluster) as client:
        yield client


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Client]:
    scheme, slashes, _ = cluster.address.partition("://")
    if slashes and f"{scheme}://" not in _SCHEMES:
        raise ClusterError(f"the address of a scheduler begins with {', '.join(_SCHEMES)}, got {cluster.address}")
    address = cluster.address if slashes else address_of(Path(cluster.address))
    try:
        client = Client(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no scheduler answers at {address}: {error}") from error
    with client:
        yield client


def address_of(path: Path) -> str:
    """Return the address of a scheduler that wrote a file (`dask scheduler --scheduler-file`).

    Raises:
        ClusterError: There is no such file, or no scheduler wrote it.
    """
    if not path.is_file():
        raise ClusterError(
            f"there is no cluster {path}: give local:N, tcp://HOST:PORT, or the file that a scheduler wrote"
        )
    found = read_json(path)
    if not (isinstance(found, dict) and isinstance(found.get("address"), str)):
        raise ClusterError(f"{path} is no file that a Dask scheduler wrote: it names no address")
    return str(found["address"])


@contextmanager
def _local(cluster: Cluster, count: str) -> Iterator[LocalCluster]:
    """Start workers on this machine; each has its share of the cores, and one of the GPUs in turn."""
    if not count.isdecimal() or not 1 <= int(count) <= 1024:
        raise ClusterError(f"local:N needs a number of processes from 1, got {cluster.address}")
    threads = str(max(1, (os.cpu_count() or 1) // int(count)))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    settings = {
        # A unit may start processes of its own, such as those that load patches.
        "distributed.worker.daemon": False,
        "distributed.deploy.lost-worker-timeout": _RESTART,
        "distributed.worker.preload": [*dask.config.get("distributed.worker.preload"), "voxward.engine.local"],
        "distributed.nanny.pre-spawn-environ": {name: os.environ.get(name, threads) for name in names},
        "distributed.scheduler.allowed-failures": 1_000_000,  # it is counted here
        "distributed.admin.system-monitor.gil.enabled": False,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=int(count), threads_per_worker=1, memory_limit=0,
            dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False},  # any port: others may have one
            resources=dict(cluster.resources) or None, silence_logs=50,
        ) as started,
    ):  # fmt: skip
        yield started


def replace_lost(client: Client) -> None:
    """Start the processes of `local:N` again that have not come back by themselves."""
    cluster = client.cluster
    if isinstance(cluster, LocalCluster) and len(cluster.workers) < len(cluster.worker_spec):
        cluster.scale(len(cluster.worker_spec))
