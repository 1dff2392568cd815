"""The command that trains and attacks many systems on many tasks."""

from __future__ import annotations

import argparse

from rich.markup import escape

from voxward.cli.arguments import (
    Arguments,
    cluster_arguments,
    clustered,
    console,
    device_arguments,
    errors,
    given,
    output_of,
    overwrite_argument,
    report_argument,
    set_argument,
    workers_argument,
)
from voxward.core.choices import Compute
from voxward.core.wording import counted
from voxward.report.progress import ShowProgress


def suite_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward suite`."""
    add = parser.add_argument
    add("suite", help="a packaged suite (small, decathlon) or a .yaml file")
    add("--out", required=True, help="the folder of everything; an interrupted call goes on there")
    add(
        "--data", metavar="DIR",
        help="the folder in which the datasets lie (default: the environment variable VOXWARD_DATA, else the folder of "
        "the suite's file)",
    )  # fmt: skip
    add("--tasks", nargs="+", default=[], metavar="TASK", help="work on these tasks only (default: all)")
    add("--estimate", action="store_true", help="only estimate the hours, and write nothing")
    workers_argument(parser)
    set_argument(parser, "change the suite, for example --set systems.rog.minutes=30; may be given several times")
    overwrite_argument(parser)
    report_argument(parser)
    cluster_arguments(parser)
    device_arguments(parser)


def suite(arguments: Arguments) -> int:
    """Run `voxward suite`.

    Returns:
        The exit code: 1 where a cell failed, 2 where every cell did.
    """
    from voxward.commands.suite import suite as run
    from voxward.report.suite.costs import costs_table
    from voxward.report.suite.tables import suite_tables

    with ShowProgress(errors) as progress:
        values = clustered(given(arguments, compute=Compute))
        output = output_of(values, progress)
        result = run(**values, out=output)
    if result.costs is not None:
        console.print(costs_table(result.costs).terminal())
        return 0
    assert result.source is not None
    for table in suite_tables(result.source).values():
        console.print(table.terminal())
    written = "tables, figures and the page report.html" if output.report else "tables and figures"
    console.print(f"{written}: {escape(str(result.out))}", soft_wrap=True)
    failed = len(result.source.failed)
    if not failed:
        return 0
    text = (
        f"{counted(failed, 'cell')} failed, see above; the same command tries {'it' if failed == 1 else 'them'} again"
    )
    errors.print(f"[red]failed:[/red] {text}", soft_wrap=True)
    return 1 if any(task.dice or task.attacked for task in result.source.tasks) else 2
