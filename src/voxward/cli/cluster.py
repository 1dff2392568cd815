"""The commands for work on several machines."""

from __future__ import annotations

import argparse

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
