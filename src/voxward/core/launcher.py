"""What started this process several times: torchrun, srun or mpirun. Each process must know its part of the work."""

from __future__ import annotations

import os
from dataclasses import dataclass

from voxward.core.errors import UserError


@dataclass(frozen=True)
class Launcher:
    """A program that started several processes with the same arguments.

    Attributes:
        name: The name of the program.
        variable: The environment variable that says how many processes there are.
        processes: How many processes there are, on all nodes.
        here: How many of them are on this node; None where the program does not say so.
        trains: Whether the processes can train one network together.
    """

    name: str
    variable: str
    processes: int
    here: int | None = None
    trains: bool = True

    def __str__(self) -> str:
        return f"{self.name} started {self.processes} processes ({self.variable}={self.processes})"


def launcher() -> Launcher | None:
    """Return the program that started this process as one of several; None where nobody did.

    SLURM also tells the shell of a batch script how many tasks a job has. There, nothing was started yet: only srun
    says how many tasks its step has.
    """
    local = _count("LOCAL_WORLD_SIZE")
    known = (
        Launcher("a launcher such as torchrun", "WORLD_SIZE", _count("WORLD_SIZE"), local or None),
        Launcher("srun", "SLURM_STEP_NUM_TASKS", _count("SLURM_STEP_NUM_TASKS"), _tasks_here()),
        Launcher("mpirun", "OMPI_COMM_WORLD_SIZE", _count("OMPI_COMM_WORLD_SIZE"), trains=False),
        Launcher("mpirun", "PMI_SIZE", _count("PMI_SIZE"), trains=False),
    )
    return next((one for one in known if one.processes > 1), None)


def refuse_launcher(devices: int, nodes: int = 1) -> None:
    """Refuse to train with other numbers of processes than a launcher has started.

    Each of them would train the whole run, or wait for processes that nobody starts.

    Args:
        devices: The number of processes on each node that were asked for.
        nodes: The number of nodes that were asked for.

    Raises:
        UserError: The numbers are below 1, or the environment says that there are other processes.
    """
    if devices < 1 or nodes < 1:
        raise UserError(f"devices and nodes must be at least 1, got {devices} and {nodes}")
    found, asked = launcher(), devices * nodes
    if found is None:
        if nodes > 1:
            raise UserError(
                f"--nodes {nodes} needs a launcher that starts {devices} of these commands on each node: torchrun "
                f"--nnodes {nodes} --nproc-per-node {devices}, or srun --nodes {nodes} --ntasks-per-node {devices}"
            )
        return
    if not found.trains:
        raise UserError(f"{found}, and they cannot train together: start them by torchrun or srun")
    if found.processes == asked and found.here in (None, devices):
        return
    here = found.here or found.processes
    legal = f"--devices {here}" + (f" --nodes {found.processes // here}" if found.processes > here else "")
    if asked == 1:
        raise UserError(f"{found}, and each would train the whole run on its own: pass {legal}, or start one process")
    raise UserError(f"{found}, but --devices {devices} --nodes {nodes} are {asked}: pass {legal}")


def refuse_several(command: str) -> None:
    """Refuse a command that was started several times with the same arguments: each process would do all of its work.

    Args:
        command: The name of the command.

    Raises:
        UserError: The environment says that there are several processes.
    """
    if (found := launcher()) is not None:
        raise UserError(
            f"{found}, and each would do all the work of {command!r}: start it once, and use several machines by "
            f"--cluster. Where each process has arguments of its own: env -u {found.variable} voxward {command} ..."
        )


def started_by_srun() -> bool:
    """Return whether this process is one of several tasks of a job step of SLURM."""
    return _count("WORLD_SIZE") <= 1 and _count("SLURM_STEP_NUM_TASKS") > 1


def _tasks_here() -> int | None:
    """How many tasks a step of SLURM has on each node; None where the nodes have different numbers of them."""
    tasks, nodes = _count("SLURM_STEP_NUM_TASKS"), _count("SLURM_STEP_NUM_NODES")
    return tasks // nodes if nodes and tasks % nodes == 0 else None


def _count(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 0
