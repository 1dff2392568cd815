"""What a batch job asks SLURM for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from voxward.core.errors import UserError

_TIMES = (
    r"(?P<minutes>\d+)(:(?P<seconds>\d+))?",
    r"(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)",
    r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?",
)
_PER = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
_PLAIN = re.compile(r"[\w.,:=+@%/-]+")


@dataclass(frozen=True)
class Job:
    """What a batch job asks SLURM for, and how it ends.

    Args:
        nodes: The number of machines.
        time: The time limit as SLURM writes it: MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS,
            DAYS-HOURS:MINUTES or DAYS-HOURS:MINUTES:SECONDS.
        gpus_per_node: The number of GPUs on each machine; 0 for none.
        workers_per_node: The number of processes on each machine; by default one for each GPU, or one.
        cpus_per_task: The number of cores of each process; by default what the cluster gives.
        mem: The memory of each machine as SLURM writes it, such as 64G; by default what the cluster gives.
        partition: The partition; by default the cluster's own.
        account: The account that is charged; by default the user's own.
        warn: How many seconds before the time limit no further unit is begun; the units that run are finished in them,
            and then the job is put back into the queue.

    Raises:
        UserError: A number or the time limit means nothing, or the job would end before it begins.

    Example:
        >>> Job(nodes=4, time="8:00:00", gpus_per_node=4).processes
        4
    """

    nodes: int
    time: str
    gpus_per_node: int = 0
    workers_per_node: int | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    partition: str | None = None
    account: str | None = None
    warn: int = 300

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("gpus_per_node", 0), ("workers_per_node", 1), ("cpus_per_task", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} must be at least {least}, got {value}")
        if self.gpus_per_node and self.processes > self.gpus_per_node:
            raise UserError(
                f"workers_per_node must be at most gpus_per_node, so that each has a GPU of its own: "
                f"got {self.processes} and {self.gpus_per_node}"
            )
        for name in ("mem", "partition", "account"):
            value = getattr(self, name)
            if value is not None and not _PLAIN.fullmatch(value):
                raise UserError(f"{name} must be one word as SLURM writes it, got {value!r}")
        if not 0 < self.warn < self.seconds:
            raise UserError(
                f"warn must be a number of seconds below the time limit, which is {self.seconds} s, got {self.warn}"
            )

    @property
    def processes(self) -> int:
        """Return the number of processes on each machine."""
        return self.workers_per_node or self.gpus_per_node or 1

    @property
    def seconds(self) -> int:
        """Return the time limit in seconds.

        Raises:
            UserError: It is none.
        """
        found = next(filter(None, (re.fullmatch(form, self.time) for form in _TIMES)), None)
        total = 0 if found is None else sum(int(v) * _PER[k] for k, v in found.groupdict().items() if v)
        if not total:
            raise UserError(
                "time must be a time limit as SLURM writes it, such as 90 (minutes), 8:00:00 or 2-12 (days-hours), "
                f"got {self.time!r}"
            )
        return total
