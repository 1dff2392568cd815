"""The commands that look at a dataset and prepare it."""

from __future__ import annotations

import argparse

from rich.markup import escape

from voxward.cli.arguments import (
    Arguments,
    console,
    errors,
    given,
    overwrite_argument,
    recipe_arguments,
)
from voxward.report.progress import BarProgress


def check_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward check` takes."""
    parser.add_argument("dataset", help="dataset folder: MSD, nnU-Net raw, or images/ and labels/")
    parser.add_argument("--workers", type=int, default=2, help="cases read at once (default 2)")


def check(arguments: Arguments) -> int:
    """Run `voxward check`."""
    from voxward.commands.check import check
    from voxward.report.problems import problems_table

    report = check(arguments.dataset, arguments.workers)
    if report.problems:
        console.print(problems_table(report).terminal())
    verdict = "no problems" if report.ok else f"{len(report.errors)} errors"
    console.print(f"{report.cases} cases read: {verdict}, {len(report.warnings)} warnings")
    return 0 if report.ok else 1


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward plan` takes."""
    recipe_arguments(parser)
    parser.add_argument("--out", help="folder for plan.json and fingerprint.json")
    overwrite_argument(parser)


def plan(arguments: Arguments) -> int:
    """Run `voxward plan`."""
    from voxward.commands.plan import plan
    from voxward.core.progress import counter
    from voxward.core.structure import to_data

    with BarProgress(errors) as progress:
        decided = plan(**given(arguments), progress=counter(progress, "fingerprint"))
    console.print_json(data=to_data(decided))
    return 0


def prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward prepare` takes."""
    recipe_arguments(parser)
    parser.add_argument("--out", required=True, help="folder for the prepared cases")
    parser.add_argument("--plan", help="a plan.json, perhaps edited, instead of the planner's")
    overwrite_argument(parser)


def prepare(arguments: Arguments) -> int:
    """Run `voxward prepare`."""
    from voxward.commands.prepare import prepare
    from voxward.core.progress import counter

    with BarProgress(errors) as progress:
        prepare(**given(arguments), progress=counter(progress, "prepare"))
    console.print(f"prepared cases are in {escape(arguments.out)}")
    return 0
