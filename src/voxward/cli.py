"""The door: a table of commands. The only place that prints or exits."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.markup import escape

from voxward import cli_attack as robust
from voxward import cli_folds as folds
from voxward.cli_arguments import (
    Arguments,
    cascade_arguments,
    console,
    device_arguments,
    ensemble_arguments,
    errors,
    given,
    overwrite_argument,
    size,
    take_negative_fractions,
)
from voxward.report.progress import BarProgress


@dataclass(frozen=True)
class Command:
    """One line of the table: what it says of itself, its arguments, and what runs (returning the exit code)."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Arguments], int]


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="dataset folder: MSD, nnU-Net raw, or images/ and labels/")
    parser.add_argument("--workers", type=int, default=2, help="cases read at once (default 2)")


def _check(arguments: Arguments) -> int:
    from voxward.commands.check import check
    from voxward.report.tables import problems_table

    report = check(arguments.dataset, arguments.workers)
    if report.problems:
        console.print(problems_table(report))
    verdict = "no problems" if report.ok else f"{len(report.errors)} errors"
    console.print(f"{report.cases} cases read: {verdict}, {len(report.warnings)} warnings")
    return 0 if report.ok else 1


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="dataset folder")
    parser.add_argument("--recipe", default="rog", help="a packaged recipe (rog, dynunet, ...) or a .yaml file")
    parser.add_argument("--fold", type=int, default=0, help="which fold of the dataset's splits (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="cases prepared at once (default 2)")
    _set_argument(parser)


def _set_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="change the recipe, e.g. --set training.epochs=100 (repeatable)",
    )  # fmt: skip


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument("--out", help="folder for plan.json and fingerprint.json")
    overwrite_argument(parser)


def _plan(arguments: Arguments) -> int:
    from voxward.commands.plan import plan
    from voxward.core.progress import counter
    from voxward.core.structure import to_data

    with BarProgress(errors) as progress:
        decided = plan(**given(arguments), progress=counter(progress, "fingerprint"))
    console.print_json(data=to_data(decided))
    return 0


def _prepare_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument("--out", required=True, help="folder for the prepared cases")
    parser.add_argument("--plan", help="a plan.json, perhaps edited, instead of the planner's")
    overwrite_argument(parser)


def _prepare(arguments: Arguments) -> int:
    from voxward.commands.prepare import prepare
    from voxward.core.progress import counter

    with BarProgress(errors) as progress:
        prepare(**given(arguments), progress=counter(progress, "prepare"))
    console.print(f"prepared cases are in {escape(arguments.out)}")
    return 0


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
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


def _harden_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("--out", required=True, help="the hardened run's folder")
    parser.add_argument("--dataset", help="where the run's dataset lies now, if it was moved")
    parser.add_argument("--method", default="free", choices=("free", "pgd", "trades"), help="default: free")
    parser.add_argument("--eps", type=size, default=8 / 255, help="share of the intensity window (default 8/255)")
    parser.add_argument("--minutes", type=float, help="time budget of the training (default: the recipe's epochs)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out, by its own method and eps")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="cases prepared at once (default 2)")
    _set_argument(parser)
    device_arguments(parser)
    parser.add_argument("--devices", type=int, default=1, help="processes to train with (DDP)")


def _harden(arguments: Arguments) -> int:
    from voxward.commands.harden import harden

    with BarProgress(errors) as progress:
        run = harden(**given(arguments), progress=progress)
    shown = escape(str(run))
    console.print(
        f"hardened: {shown}\nnext: voxward benchmark {escape(arguments.run)} {shown} DATASET --out DIR", soft_wrap=True
    )
    return 0


def _search_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
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


def _search(arguments: Arguments) -> int:
    from voxward.commands.search import search
    from voxward.report.architectures import architectures_table

    with BarProgress(errors) as progress:
        result = search(**given(arguments), progress=progress)
    console.print(architectures_table(result.architectures))
    best = escape(str(result.out / f"{result.architectures[0].name}.yaml"))
    console.print(f"next: voxward train {escape(arguments.dataset)} --recipe {best} --out RUN", soft_wrap=True)
    return 0


def _train(arguments: Arguments) -> int:
    from voxward.commands.train import train

    with BarProgress(errors) as progress:
        run = train(**given(arguments), progress=progress)
    console.print(f"trained: {escape(str(run))}\nnext: voxward evaluate {escape(str(run))}")
    return 0


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("inputs", nargs="+", help="volume files, folders of volumes, or a dataset folder")
    parser.add_argument("--out", help="folder for the predictions (default: RUN/predictions, of RUN alone)")
    parser.add_argument("--overlap", type=float, help="overlap of the windows, 0 to below 1 (default: the recipe's)")
    cascade_arguments(parser)
    _inference_arguments(parser)


def _inference_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="auto", choices=("auto", "best", "last", "swa"))
    ensemble_arguments(parser)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--resume", action="store_true", help="keep predictions that are already there")
    overwrite_argument(parser)
    device_arguments(parser)


def _predict(arguments: Arguments) -> int:
    from voxward.commands.predict import predict

    with BarProgress(errors) as progress:
        written = predict(**given(arguments), progress=progress)
    console.print(f"{len(written)} predictions in {escape(str(written[0].parent))}")
    return 0


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("dataset", nargs="?", help="another dataset folder (default: the run's validation cases)")
    parser.add_argument("--out", help="where predictions and metrics go (default: the run folder)")
    parser.add_argument("--policy", default="ignore", help="what empty masks count: ignore, one, brats, ...")
    parser.add_argument("--nsd-tolerance-mm", type=float, default=2.0, help="tolerance of the surface Dice (default 2)")
    parser.add_argument("--workers", type=int, default=2, help="cases scored at once (default 2)")
    cascade_arguments(parser)
    _inference_arguments(parser)


def _evaluate(arguments: Arguments) -> int:
    from voxward.commands.evaluate import evaluate
    from voxward.report.tables import metrics_table

    with BarProgress(errors) as progress:
        result = evaluate(**given(arguments), progress=progress)
    console.print(metrics_table(result))
    return 0


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="a dataset folder (default: synthetic phantoms)")
    parser.add_argument("--out", default="demo", help="folder of the demo (default: demo)")
    parser.add_argument("--recipe", default="dynunet", help="recipe to train (default dynunet)")
    parser.add_argument("--minutes", type=float, default=4.0, help="training time (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=25, help="how many phantoms (default 25)")
    overwrite_argument(parser)


def _demo(arguments: Arguments) -> int:
    from voxward.commands.demo import demo
    from voxward.report.tables import metrics_table

    with BarProgress(errors) as progress:
        result = demo(**given(arguments), progress=progress)
    console.print(metrics_table(result.evaluation))
    console.print(f"picture: {escape(str(result.picture))}\nrun:     {escape(str(result.run))}")
    robust.show(result.robustness)
    return 0


COMMANDS = {
    "check": Command("read every case and report all problems", _check_arguments, _check),
    "plan": Command("measure a dataset and decide patch, spacing, normalisation", _plan_arguments, _plan),
    "prepare": Command("resample and normalise all cases into a folder", _prepare_arguments, _prepare),
    "train": Command("train a recipe on a dataset", _train_arguments, _train),
    "predict": Command("segment volumes with a trained run", _predict_arguments, _predict),
    "merge": Command("merge two folders of segmentations by owned classes", folds.merge_arguments, folds.merge),
    "cv": Command("cross-validate recipes; several processes may share it", folds.cv_arguments, folds.cv),
    "suspects": Command("list training cases that never learn", folds.suspects_arguments, folds.suspects),
    "evaluate": Command("score a trained run on its validation cases", _evaluate_arguments, _evaluate),
    "harden": Command("train a run on adversarial patches", _harden_arguments, _harden),
    "search": Command("search a network architecture on a dataset", _search_arguments, _search),
    "attack": Command("attack a trained run through its whole pipeline", robust.attack_arguments, robust.attack),
    "benchmark": Command("attack several runs and compare them", robust.benchmark_arguments, robust.benchmark),
    "demo": Command("train, predict, evaluate and attack in a few minutes", _demo_arguments, _demo),
}


def parser() -> argparse.ArgumentParser:
    """The command line, built from the table."""
    top = argparse.ArgumentParser(prog="voxward", description="Train, attack and harden 3D medical segmentation.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        line = commands.add_parser(name, help=command.help, description=command.help)
        take_negative_fractions(line)
        command.arguments(line)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Exit code 0; 1 where `check` found errors or an attack's own checks failed; 2 for bad input; 130 when interrupted.
    """
    from voxward.training.interrupt import Interrupted

    # Before torch is imported: a thread that waits for another one spins, and on a busy machine takes the core that the
    # other one needs. Spinning less costs nothing on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = parser().parse_args(argv)
    warnings.showwarning = _warn  # a user has no use for the line of code that warns
    try:
        return COMMANDS[arguments.command].run(arguments)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        errors.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        return 2
    except (Interrupted, KeyboardInterrupt) as stop:
        errors.print(f"[yellow]interrupted:[/yellow] {escape(str(stop) or 'what was finished is kept')}")
        return 130


def _warn(message: Warning | str, *where: object, **others: object) -> None:
    errors.print(f"[yellow]warning:[/yellow] {escape(str(message))}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
