"""The commands that train: a run, a hardened run, a cross-validation and an architecture search."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from voxward.cli.arguments import (
    DEFENCES,
    Arguments,
    Registered,
    cluster_arguments,
    clustered,
    console,
    device_arguments,
    devices_argument,
    errors,
    fold_number,
    given,
    links_argument,
    nan_argument,
    nan_override,
    outcome,
    output_of,
    overwrite_argument,
    recipe_arguments,
    report_argument,
    seed_argument,
    set_argument,
    size,
    told,
    workers_argument,
)
from voxward.core.choices import Change, Compute, Fold, Reuse
from voxward.core.strategy import OBJECTIVES, RUNGS, STRATEGIES, Strategy, rung_text
from voxward.core.wording import counted
from voxward.report.progress import ShowProgress

if TYPE_CHECKING:
    from voxward.commands.search import SearchResult


def train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward train`."""
    recipe_arguments(parser)
    add = parser.add_argument
    add("--out", required=True, help="the folder of the run")
    add("--minutes", type=float, help="the time budget of the training (default: the epochs of the recipe)")
    add("--resume", action="store_true", help="go on with the run in --out exactly where it stopped")
    add("--plan", help="a plan.json, which may have been edited, in place of the planner's decisions")
    add("--prepared", help="a folder of prepared cases, which several runs may share (default: OUT/prepared)")
    add(
        "--start",
        metavar="RUN",
        help="a run whose weights the new run begins with; on the same dataset also its plan and split, on another one "
        "its geometry and normalisation, with new last layers where the classes are others",
    )
    nan_argument(parser)
    add("--defence", choices=DEFENCES, metavar="NAME", help="train adversarially: %(choices)s (default: do not)")
    device_arguments(parser)
    devices_argument(parser)


def train(arguments: Arguments) -> int:
    """Run `voxward train`."""
    from voxward.commands.train import train

    values = given(arguments, fold=Fold, reuse=Reuse, compute=Compute)
    defence = values.pop("defence")
    if defence is not None:
        values["overrides"] = [f"defence.method={defence}", *values["overrides"]]
    values["overrides"] = [*values["overrides"], *nan_override(values)]
    with ShowProgress(errors) as progress:
        run = train(**values, progress=progress)
    # A run on all cases has none of its own to be scored on.
    after = "predict RUN VOLUMES --out DIR" if values["fold"].fold == "all" else "evaluate RUN"
    console.print(
        f"trained: {escape(str(run))}\n{_kept(run)}next: voxward {after.replace('RUN', escape(str(run)))}",
        soft_wrap=True,
    )
    return 0


def _kept(folder: Path) -> str:
    """Return lines that say which steps gave the best weights, and their scores."""
    from voxward.runs.kept import kept_of

    return "".join(f"{name + ': ' if name else ''}{kept.text}\n" for name, kept in kept_of(folder).items())


def harden_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward harden`."""
    add = parser.add_argument
    add("run", help="the folder of a trained run, or a results folder of nnU-Net")
    add("--out", required=True, help="the folder of the hardened run or results folder")
    add("--dataset", help="the folder in which the dataset lies now, if it was moved; needed for an nnU-Net")
    add("--fold", type=fold_number, metavar="N|all", help="the fold of an nnU-Net to harden, if there are several")
    add("--method", default="free", choices=DEFENCES, metavar="NAME", help="%(choices)s (default free)")
    add("--eps", type=size, help="the largest change, a share of the intensity range (default 8/255; noise has none)")
    add("--minutes", type=float, help="the time budget of the training (default: the epochs of the recipe)")
    add("--resume", action="store_true", help="go on with the run in --out, with its own method and eps")
    seed_argument(parser)
    workers_argument(parser)
    set_argument(parser)
    links_argument(parser)
    overwrite_argument(parser)
    report_argument(parser)
    device_arguments(parser)
    devices_argument(parser)


def harden(arguments: Arguments) -> int:
    """Run `voxward harden`."""
    from voxward.commands.harden import harden

    with ShowProgress(errors) as progress:
        values = given(arguments, change=Change, compute=Compute)
        output = output_of(values, progress)
        run = harden(**values, out=output)
    shown = escape(str(run))
    console.print(
        f"hardened: {shown}\n{_kept(run)}"
        f"next: voxward attack {escape(arguments.run)} {shown} --dataset DATASET --out DIR",
        soft_wrap=True,
    )
    return 0


def search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward search`."""
    recipe_arguments(parser)
    parser.set_defaults(recipe="msnas")
    add = parser.add_argument
    add("--out", required=True, help="the folder of the search")
    add(
        "--strategy", default="bilevel", choices=STRATEGIES,
        help="bilevel: the super-net of MS-NAS; halving: many short trainings, of which the best go on; random: a few "
        "random candidates, trained to the end (default bilevel)",
    )  # fmt: skip
    add(
        "--paths", type=int, nargs="+", default=[3, 4, 5],
        help="of bilevel: the numbers of paths; one network is decoded for each of them (default 3 4 5)",
    )  # fmt: skip
    add(
        "--objective", default="dice", choices=OBJECTIVES,
        help="of halving and random, what decides who goes on: Dice, robust Dice, or the Pareto front of Dice against "
        "multiply-adds (default dice)",
    )  # fmt: skip
    add(
        "--rungs", nargs="+", metavar="COUNT:SHARE",
        help="of halving: how many candidates are trained to which share of a whole training, rung by rung, such as "
        f"27:1/9 9:1/3 3:1 (default {' '.join(rung_text(*rung) for rung in RUNGS)})",
    )  # fmt: skip
    add(
        "--candidates", type=int,
        help=f"of halving and random: how many begin (default {RUNGS[0][0]}, or 8 for random); all rungs of halving "
        "change in proportion",
    )  # fmt: skip
    add("--minutes", type=float, help="the time budget of the search (default: steps and epochs of the recipe)")
    add("--resume", action="store_true", help="go on with the search in --out exactly where it stopped")
    add("--plan", help="a plan.json, which may have been edited, in place of the planner's decisions")
    add("--prepared", help="a folder of prepared cases, which several runs may share (default: OUT/prepared)")
    nan_argument(parser)
    overwrite_argument(parser)
    report_argument(parser)
    cluster_arguments(parser)
    device_arguments(parser)


def search(arguments: Arguments) -> int:
    """Run `voxward search`."""
    from voxward.commands.search import search
    from voxward.report.architectures import architectures_table

    values = clustered(given(arguments, strategy=Strategy, fold=Fold, reuse=Reuse, compute=Compute))
    values["overrides"] = [*values["overrides"], *nan_override(values)]
    with ShowProgress(errors) as progress:
        out = output_of(values, progress)
        result = search(**values, out=out)
    if result.run is not None:
        return _searched_by_trainings(result)
    console.print(architectures_table(result.architectures).terminal())
    best = escape(str(result.out / f"{result.architectures[0].name}.yaml"))
    console.print(f"next: voxward train {escape(arguments.dataset)} --recipe {best} --out RUN", soft_wrap=True)
    return 0


def _searched_by_trainings(result: SearchResult) -> int:
    """Show what a search by trainings has found."""
    best = result.candidates[0]
    console.print(
        f"table of all candidates: {escape(str(result.out / 'candidates.md'))}\n"
        f"best: candidate {best.number} ({best.origin}), Dice {best.scores[-1].dice:.4f} on the selection patches\n"
        f"next: voxward evaluate {escape(str(result.run))}",
        soft_wrap=True,
    )
    return 0


def cv_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward cv`."""
    add = parser.add_argument
    add("dataset", help="the folder of the dataset")
    add("--out", required=True, help="the folder of the runs and the table; an interrupted call goes on there")
    add("--recipe", nargs="+", default=["rog"], help="packaged recipes or .yaml files (default rog)")
    add("--folds", type=int, default=5, help="the number of folds (default 5)")
    add("--keep", type=int, help="how many of the recipes predict each fold, the best ones (default: all)")
    add("--minutes", type=float, help="the time budget of each training (default: the recipe's epochs)")
    add("--policy", default="ignore", help="what empty masks count: ignore, one, brats, ...")
    nan_argument(parser)
    seed_argument(parser)
    workers_argument(parser)
    set_argument(parser)
    overwrite_argument(parser)
    report_argument(parser)
    cluster_arguments(parser)
    device_arguments(parser)


def cv(arguments: Arguments) -> int:
    """Run `voxward cv`."""
    from voxward.commands.cv import cv as run
    from voxward.core.choices import Compute, Fold
    from voxward.metrics.policies import Scoring
    from voxward.report.metrics import metrics_table

    with ShowProgress(errors) as progress:
        values = clustered(given(arguments, fold=Fold, scoring=Scoring, compute=Compute))
        values["overrides"] = [*values["overrides"], *nan_override(values)]
        output = output_of(values, progress)
        result, failed = outcome(lambda: run(**values, out=output))
    if result is not None:
        console.print(metrics_table(result).terminal())
    console.print(f"runs, table and the ensemble's system.yaml: {escape(arguments.out)}")
    return told(failed)


def suspects_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward suspects`."""
    add = parser.add_argument
    add("run", help="the folder of a trained run")
    add("--out", help="the file of the list (default: RUN/suspects.csv)")
    add(
        "--rule", default="mad", choices=Registered("voxward.training.ledger", "RULES"), metavar="NAME",
        help="the rule by which a loss is too high: %(choices)s (default mad)",
    )  # fmt: skip
    add("--threshold", type=float, help="the threshold of the rule (default: 3 deviations, or the quantile 0.95)")
    add("--epochs", type=int, default=10, help="the number of last epochs whose losses count (default 10)")
    overwrite_argument(parser)


def suspects(arguments: Arguments) -> int:
    """Run `voxward suspects`."""
    from voxward.commands.suspects import suspects as run

    found = run(**given(arguments))
    for suspect in found:
        console.print(f"{escape(suspect.case)}: loss {suspect.loss:.4f}, limit {suspect.limit:.4f}")
    where = arguments.out or f"{arguments.run}/suspects.csv"
    console.print(f"{counted(len(found), 'case')} listed in {escape(where)}: review it, then voxward train --exclude")
    return 0
