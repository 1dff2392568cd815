"""The commands that train: one run, a hardened one, a cross-validation, an architecture search."""

from __future__ import annotations

import argparse

from rich.markup import escape

from voxward.cli.arguments import (
    Arguments,
    console,
    device_arguments,
    errors,
    given,
    overwrite_argument,
    recipe_arguments,
    set_argument,
    size,
)
from voxward.report.progress import BarProgress


def train_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward train` takes."""
    recipe_arguments(parser)
    parser.add_argument("--out", required=True, help="the run folder")
    parser.add_argument("--minutes", type=float, help="time budget of the training (default: the recipe's epochs)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out exactly where it stopped")
    parser.add_argument("--plan", help="a plan.json, perhaps edited, instead of the planner's")
    parser.add_argument("--prepared", help="folder of prepared cases to share between runs (default: RUN/prepared)")
    parser.add_argument("--start", metavar="RUN", help="a run whose weights, plan and split to begin with")
    parser.add_argument("--defence", choices=("free", "pgd", "trades"), help="adversarial training; see `harden`")
    parser.add_argument("--exclude", metavar="CSV", help="cases not to train on, from `voxward suspects`")
    parser.add_argument("--folds", type=int, default=5, help="parts of the dataset without own splits (default 5)")
    device_arguments(parser)
    parser.add_argument("--devices", type=int, default=1, help="processes to train with (DDP)")


def train(arguments: Arguments) -> int:
    """Run `voxward train`."""
    from voxward.commands.train import train

    with BarProgress(errors) as progress:
        run = train(**given(arguments), progress=progress)
    console.print(f"trained: {escape(str(run))}\nnext: voxward evaluate {escape(str(run))}")
    return 0


def harden_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward harden` takes."""
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("--out", required=True, help="the hardened run's folder")
    parser.add_argument("--dataset", help="where the run's dataset lies now, if it was moved")
    parser.add_argument("--method", default="free", choices=("free", "pgd", "trades"), help="default: free")
    parser.add_argument("--eps", type=size, default=8 / 255, help="share of the intensity window (default 8/255)")
    parser.add_argument("--minutes", type=float, help="time budget of the training (default: the recipe's epochs)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out, by its own method and eps")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="cases prepared at once (default 2)")
    set_argument(parser)
    device_arguments(parser)
    parser.add_argument("--devices", type=int, default=1, help="processes to train with (DDP)")


def harden(arguments: Arguments) -> int:
    """Run `voxward harden`."""
    from voxward.commands.harden import harden

    with BarProgress(errors) as progress:
        run = harden(**given(arguments), progress=progress)
    shown = escape(str(run))
    console.print(
        f"hardened: {shown}\nnext: voxward benchmark {escape(arguments.run)} {shown} DATASET --out DIR", soft_wrap=True
    )
    return 0


def search_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward search` takes."""
    recipe_arguments(parser)
    parser.set_defaults(recipe="msnas")
    parser.add_argument("--out", required=True, help="folder of the search")
    parser.add_argument(
        "--paths", type=int, nargs="+", default=[3, 4, 5], help="a network for each number of paths (default 3 4 5)"
    )
    parser.add_argument("--minutes", type=float, help="about how long to search (default: the recipe's steps)")
    parser.add_argument("--resume", action="store_true", help="continue the search in --out exactly where it stopped")
    parser.add_argument("--plan", help="a plan.json, perhaps edited, instead of the planner's")
    parser.add_argument("--prepared", help="folder of prepared cases to share between runs (default: OUT/prepared)")
    overwrite_argument(parser)
    device_arguments(parser)


def search(arguments: Arguments) -> int:
    """Run `voxward search`."""
    from voxward.commands.search import search
    from voxward.report.architectures import architectures_table

    with BarProgress(errors) as progress:
        result = search(**given(arguments), progress=progress)
    console.print(architectures_table(result.architectures).terminal())
    best = escape(str(result.out / f"{result.architectures[0].name}.yaml"))
    console.print(f"next: voxward train {escape(arguments.dataset)} --recipe {best} --out RUN", soft_wrap=True)
    return 0


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
    from voxward.report.metrics import metrics_table

    with BarProgress(errors) as progress:
        result = run(**given(arguments), progress=progress)
    console.print(metrics_table(result).terminal())
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
