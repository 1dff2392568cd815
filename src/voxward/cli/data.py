"""The commands that check, plan and prepare a dataset."""

from __future__ import annotations

import argparse

from rich.markup import escape

from voxward.cli.arguments import (
    Arguments,
    console,
    errors,
    given,
    nan_argument,
    nan_override,
    outcome,
    overwrite_argument,
    reading_arguments,
    recipe_arguments,
    told,
    workers_argument,
)
from voxward.core.choices import Fold, Reading
from voxward.report.progress import BarProgress


def check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward check`."""
    parser.add_argument("dataset", help="the folder of the dataset: MSD, nnU-Net raw, or images/ and labels/")
    workers_argument(parser)
    reading_arguments(parser)


def check(arguments: Arguments) -> int:
    """Run `voxward check`."""
    from voxward.commands.check import check
    from voxward.report.problems import problems_table, summary

    report = check(**given(arguments, reading=Reading))
    if report.problems:
        console.print(problems_table(report).terminal())
    console.print(summary(report))
    return 0 if report.ok else 1


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward plan`."""
    recipe_arguments(parser)
    nan_argument(parser)
    parser.add_argument("--out", help="the folder that gets plan.json and fingerprint.json (default: write nothing)")
    overwrite_argument(parser)


def plan(arguments: Arguments) -> int:
    """Run `voxward plan`."""
    from voxward.commands.plan import plan
    from voxward.core.document import with_format
    from voxward.core.structure import to_data

    values = given(arguments, fold=Fold)
    values["overrides"] = [*values["overrides"], *nan_override(values)]
    with BarProgress(errors) as progress:
        decided = plan(**values, progress=progress)
    console.print_json(data=with_format(to_data(decided)))
    return 0


def prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward prepare`."""
    recipe_arguments(parser)
    parser.add_argument("--out", required=True, help="the folder of the prepared cases")
    parser.add_argument("--plan", help="a plan.json, which may have been edited, in place of the planner's decisions")
    reading_arguments(parser)
    overwrite_argument(parser)


def prepare(arguments: Arguments) -> int:
    """Run `voxward prepare`."""
    from voxward.commands.prepare import prepare

    with BarProgress(errors) as progress:
        _, failed = outcome(lambda: prepare(**given(arguments, fold=Fold, reading=Reading), progress=progress))
    console.print(f"prepared cases are in {escape(arguments.out)}")
    return told(failed)
