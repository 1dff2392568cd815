"""The commands for work on several machines."""

from __future__ import annotations

import argparse
import sys

from voxward.cli.arguments import Arguments, given, resource


def worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward worker`."""
    add = parser.add_argument
    add("scheduler", help="tcp://HOST:PORT, or the file that `dask scheduler --scheduler-file FILE` writes")
    add(
        "--resources", nargs="+", type=resource, default=[], metavar="NAME=AMOUNT",
        help="what this worker offers, such as GPU=1 MEMORY=16e9; commands ask for it with their own --resources",
    )  # fmt: skip
    add("--name", help="the name that the scheduler shows (default: the address of the worker)")
    add("--local-directory", metavar="DIR", help="the folder for temporary files (default: one of the machine)")
    add(
        "--timeout", type=float, default=120.0, metavar="SECONDS",
        help="how long the scheduler is waited for (default 120)",
    )  # fmt: skip


def worker(arguments: Arguments) -> int:
    """Run `voxward worker`."""
    from voxward.commands.worker import worker

    values = given(arguments)
    worker(**{**values, "resources": dict(values["resources"])})
    return 0


def slurm_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward slurm`."""
    add = parser.add_argument
    add("--nodes", type=int, required=True, help="the number of machines")
    add("--time", required=True, help="the time limit as SLURM writes it: 90 (minutes), 8:00:00, 2-12 (days-hours)")
    add("--gpus-per-node", type=int, default=0, metavar="N", help="the number of GPUs of each machine (default 0)")
    add(
        "--workers-per-node", type=int, metavar="N",
        help="the number of processes on each machine (default: one for each GPU, or one)",
    )  # fmt: skip
    add("--cpus-per-task", type=int, metavar="N", help="the number of cores of each process (default: the cluster's)")
    add("--mem", metavar="SIZE", help="the memory of each machine, such as 64G (default: the cluster's)")
    add("--partition", metavar="NAME", help="the partition (default: the cluster's)")
    add("--account", metavar="NAME", help="the account that is charged (default: yours)")
    add(
        "--warn", type=int, default=300, metavar="SECONDS",
        help="how long before the time limit no further unit is begun, and what runs is finished (default 300)",
    )  # fmt: skip
    add(
        "--restarts", type=int, default=20, metavar="N",
        help="how often the job may put itself back into the queue at its time limit (default 20)",
    )  # fmt: skip
    add(
        "--setup", default="", metavar="SHELL",
        help="what the shell does first, such as 'module load cuda; source venv/bin/activate'",
    )  # fmt: skip
    add(
        "words",
        nargs="+",
        metavar="COMMAND",
        help="after --: attack, cv, search, suite, train or harden, with its arguments",
    )


def slurm(arguments: Arguments) -> int:
    """Run `voxward slurm`."""
    from voxward.cli import parser
    from voxward.commands.slurm import slurm
    from voxward.core.job import Job

    script = slurm(**given(arguments, job=Job))
    parser().parse_args(arguments.words[arguments.words[0] == "voxward" :])  # before the job has waited for its turn
    sys.stdout.write(script)
    return 0
