"""The door's commands over several runs or folders: cross-validation, suspects, merging."""

from __future__ import annotations

import argparse

from rich.markup import escape

from voxward.cli_arguments import Arguments, console, errors, given, overwrite_argument
from voxward.report.progress import BarProgress


def cv_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward cv` takes."""
    add = parser.add_argument
    add("dataset", help="dataset folder")
    add("--out", required=True, help="folder of the runs and the table; an interrupted call goes on there")
    add("--recipe", nargs="+", default=["rog"], help="packaged recipes or .yaml files")
    add("--folds", type=int, default=5, help="parts of the dataset (default 5)")
    add("--keep", type=int, help="so many of the recipes predict each fold, the best (default: all)")
    add("--minutes", type=float, help="time budget of each training (default: the recipe's epochs)")
    add("--seed", type=int, default=0, help="seed of everything random (default 0)")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--workers", type=int, default=2, help="cases prepared at once (default 2)")
    add("--policy", default="ignore", help="what empty masks count: ignore, one, brats, ...")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="change the recipes")
    overwrite_argument(parser)


def cv(arguments: Arguments) -> int:
    """Run `voxward cv`."""
    from voxward.commands.cv import cv as run
    from voxward.report.tables import metrics_table

    with BarProgress(errors) as progress:
        result = run(**given(arguments), progress=progress)
    console.print(metrics_table(result))
    console.print(f"runs, table and the ensemble's members: {escape(arguments.out)}")
    return 0


def suspects_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward suspects` takes."""
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("--out", help="the list (default: RUN/suspects.csv)")
    parser.add_argument("--rule", default="mad", choices=("mad", "quantile"), help="default: mad")
    parser.add_argument("--threshold", type=float, help="default: 3 deviations, or the quantile 0.95")
    parser.add_argument("--epochs", type=int, default=10, help="the last so many count (default 10)")
    overwrite_argument(parser)


def suspects(arguments: Arguments) -> int:
    """Run `voxward suspects`."""
    from voxward.commands.suspects import suspects as run

    found = run(**given(arguments))
    for suspect in found:
        console.print(f"{escape(suspect.case)}: loss {suspect.loss:.4f}, limit {suspect.limit:.4f}")
    where = arguments.out or f"{arguments.run}/suspects.csv"
    console.print(f"{len(found)} cases listed in {escape(where)}: review it, then voxward train --exclude")
    return 0


def merge_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward merge` takes."""
    parser.add_argument("first", help="folder of segmentations that keeps the classes of --owned-by-first")
    parser.add_argument("second", help="folder of the same cases, believed between background and --owned-by-second")
    parser.add_argument("--out", required=True, help="folder of the merged segmentations")
    parser.add_argument("--owned-by-first", nargs="+", type=int, default=[1, 4], help="label values (default 1 4)")
    parser.add_argument("--owned-by-second", nargs="+", type=int, default=[2], help="label values (default 2)")
    overwrite_argument(parser)


def merge(arguments: Arguments) -> int:
    """Run `voxward merge`."""
    from voxward.commands.merge import merge as run

    with BarProgress(errors) as progress:
        written = run(**given(arguments), progress=progress)
    console.print(f"{len(written)} merged segmentations in {escape(arguments.out)}")
    return 0
