"""The door: a table of commands. The only place that prints or exits."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from voxward import cli_folds as folds
from voxward.report.progress import BarProgress

if TYPE_CHECKING:
    from voxward.commands.benchmark import BenchmarkResult

Arguments = argparse.Namespace
console = Console()
errors = Console(stderr=True)


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


def _plan(arguments: Arguments) -> int:
    from voxward.commands.plan import plan
    from voxward.core.progress import counter
    from voxward.core.structure import to_data

    given = vars(arguments)
    with BarProgress(errors) as progress:
        decided = plan(**_without(given, "command"), progress=counter(progress, "fingerprint"))
    console.print_json(data=to_data(decided))
    return 0


def _prepare_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument("--out", required=True, help="folder for the prepared cases")
    parser.add_argument("--plan", help="a plan.json, perhaps edited, instead of the planner's")


def _prepare(arguments: Arguments) -> int:
    from voxward.commands.prepare import prepare
    from voxward.core.progress import counter

    with BarProgress(errors) as progress:
        prepare(**_without(vars(arguments), "command"), progress=counter(progress, "prepare"))
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
    _device_arguments(parser)
    parser.add_argument("--devices", type=int, default=1, help="processes to train with (DDP)")


def _harden_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("--out", required=True, help="the hardened run's folder")
    parser.add_argument("--dataset", help="where the run's dataset lies now, if it was moved")
    parser.add_argument("--method", default="free", choices=("free", "pgd", "trades"), help="default: free")
    parser.add_argument("--eps", type=_size, default=8 / 255, help="share of the intensity window (default 8/255)")
    parser.add_argument("--minutes", type=float, help="time budget of the training (default: the recipe's epochs)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out exactly where it stopped")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="cases prepared at once (default 2)")
    _set_argument(parser)
    _device_arguments(parser)
    parser.add_argument("--devices", type=int, default=1, help="processes to train with (DDP)")


def _harden(arguments: Arguments) -> int:
    from voxward.commands.harden import harden

    with BarProgress(errors) as progress:
        run = harden(**_without(vars(arguments), "command"), progress=progress)
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
    _device_arguments(parser)


def _search(arguments: Arguments) -> int:
    from voxward.commands.search import search
    from voxward.report.architectures import architectures_table

    with BarProgress(errors) as progress:
        result = search(**_without(vars(arguments), "command"), progress=progress)
    console.print(architectures_table(result.architectures))
    best = escape(str(result.out / f"{result.architectures[0].name}.yaml"))
    console.print(f"next: voxward train {escape(arguments.dataset)} --recipe {best} --out RUN", soft_wrap=True)
    return 0


def _device_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))


def _train(arguments: Arguments) -> int:
    from voxward.commands.train import train

    with BarProgress(errors) as progress:
        run = train(**_without(vars(arguments), "command"), progress=progress)
    console.print(f"trained: {escape(str(run))}\nnext: voxward evaluate {escape(str(run))}")
    return 0


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("inputs", nargs="+", help="volume files, folders of volumes, or a dataset folder")
    parser.add_argument("--out", help="folder for the predictions (default: RUN/predictions, of RUN alone)")
    parser.add_argument("--overlap", type=float, help="overlap of the windows, 0 to below 1 (default: the recipe's)")
    _cascade_arguments(parser)
    _inference_arguments(parser)


def _cascade_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cascade", metavar="COARSE", help="a run that finds the region, which RUN then segments")
    parser.add_argument("--margin", type=float, default=20.0, help="of the cascade's box, on every side (default 20)")
    parser.add_argument("--margin-unit", default="voxels", choices=("voxels", "mm"))
    parser.add_argument("--fraction", type=float, default=0.2, help="parts below this share are dropped (default 0.2)")


def _inference_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="auto", choices=("auto", "best", "last", "swa"))
    _ensemble_arguments(parser)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--resume", action="store_true", help="keep predictions that are already there")
    _device_arguments(parser)


def _ensemble_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--members", nargs="+", default=[], metavar="RUN", help="other runs that predict together with it")
    add("--tta", choices=("none", "mirrors", "symmetries"), help="averaged copies (default: the recipe's)")


def _predict(arguments: Arguments) -> int:
    from voxward.commands.predict import predict

    with BarProgress(errors) as progress:
        written = predict(**_without(vars(arguments), "command"), progress=progress)
    console.print(f"{len(written)} predictions in {escape(str(written[0].parent))}")
    return 0


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("dataset", nargs="?", help="another dataset folder (default: the run's validation cases)")
    parser.add_argument("--out", help="where predictions and metrics go (default: the run folder)")
    parser.add_argument("--policy", default="ignore", help="what empty masks count: ignore, one, brats, ...")
    parser.add_argument("--nsd-tolerance-mm", type=float, default=2.0, help="tolerance of the surface Dice (default 2)")
    parser.add_argument("--workers", type=int, default=2, help="cases scored at once (default 2)")
    _cascade_arguments(parser)
    _inference_arguments(parser)


def _evaluate(arguments: Arguments) -> int:
    from voxward.commands.evaluate import evaluate
    from voxward.report.tables import metrics_table

    with BarProgress(errors) as progress:
        result = evaluate(**_without(vars(arguments), "command"), progress=progress)
    console.print(metrics_table(result))
    return 0


def _size(text: str) -> float:
    """A number or a fraction such as 8/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"must be a number or a fraction such as 8/255, got {text!r}") from error


def _attack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("dataset", help="dataset folder; the run's validation cases are attacked")
    parser.add_argument("--out", help="folder of the records and tables (default: RUN/attack)")
    _threat_arguments(parser, ["autoattack"])


def _benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", help="run folders of `voxward train`")
    parser.add_argument("dataset", help="dataset folder; the runs' common validation cases are attacked")
    parser.add_argument("--out", required=True, help="folder of the records and tables")
    _threat_arguments(parser, ["autoattack", "strong"])


def _threat_arguments(parser: argparse.ArgumentParser, attacks: list[str]) -> None:
    add = parser.add_argument
    add("--attacks", nargs="+", default=attacks, help=f"attacks and ensembles (default: {' '.join(attacks)})")
    sizes = [4 / 255, 8 / 255, 16 / 255]
    add("--eps", nargs="+", type=_size, default=sizes, help="sizes of the perturbation (default: 4/255 8/255 16/255)")
    add("--mode", default="volume", choices=("volume", "patch"), help="the whole pipeline, or one window (the papers)")
    add("--norm", default="linf", choices=("linf", "l2"), help="what eps bounds (default linf)")
    add("--unit", default="range", choices=("range", "native"), help="eps as a share of the window, or in HU / raw")
    add("--reference", default="raw", choices=("raw", "window"), help="perturb the stored volume, or the clipped one")
    add("--steps", type=int, default=20, help="gradients of an APGD run (default 20)")
    add("--restarts", type=int, default=1, help="runs of APGD (default 1)")
    add("--queries", type=int, default=500, help="forward passes of Square (default 500)")
    add("--fab-steps", type=int, default=20, help="gradients of FAB (default 20)")
    add("--threshold", type=float, help="Dice under which FAB calls a case broken (default: half of mu)")
    add("--cases", type=int, help="only the first so many cases")
    add("--policy", default="ignore", help="what empty masks count: ignore, one, brats, ...")
    add("--surrogate", help="a run whose adversarial volumes are tried too (transfer attack)")
    add("--checkpoint", default="auto", choices=("auto", "best", "last", "swa"))
    _ensemble_arguments(parser)
    add("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    add("--seed", type=int, default=0, help="seed of everything random (default 0)")
    add("--erase", help="only this class counts: make it vanish (default: the mean of all classes)")
    add("--save-volumes", action="store_true", help="keep every case's adversarial volumes, not only the first one's")
    add("--budget", action="store_true", help="only estimate the hours this will take")
    add("--graphs", type=int, default=0, help="windows whose graphs may wait in memory: faster (default: one batch's)")
    add("--gradient", default="exact", choices=("exact", "window_mean"), help="window_mean: the ResDSN paper's")
    add("--stage", default="both", choices=("both", "coarse", "fine"), help="of a cascade, with its box held")
    _cascade_arguments(parser)
    _device_arguments(parser)


def _attack(arguments: Arguments) -> int:
    from voxward.commands.attack import attack

    with BarProgress(errors) as progress:
        result = attack(**_without(vars(arguments), "command"), progress=progress)
    return _show_attack(result)


def _benchmark(arguments: Arguments) -> int:
    from voxward.commands.benchmark import benchmark

    with BarProgress(errors) as progress:
        result = benchmark(**_without(vars(arguments), "command"), progress=progress)
    return _show_attack(result)


def _show_attack(result: BenchmarkResult) -> int:
    """Exit code 1 where a check failed: the figures are not to be trusted."""
    from voxward.report.robustness import rich_table

    if result.report is None:
        console.print(f"estimated: {result.hours:.2f} hours on one process like this one")
        return 0
    console.print(rich_table(result.report))
    if result.leaderboard is not None:
        console.print(rich_table(result.leaderboard))
    console.print(f"records, tables and figures: {escape(str(result.out))}")
    return 0 if result.trustworthy else 1


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="a dataset folder (default: synthetic phantoms)")
    parser.add_argument("--out", default="demo", help="folder of the demo (default: demo)")
    parser.add_argument("--recipe", default="dynunet", help="recipe to train (default dynunet)")
    parser.add_argument("--minutes", type=float, default=4.0, help="training time (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=25, help="how many phantoms (default 25)")


def _demo(arguments: Arguments) -> int:
    from voxward.commands.demo import demo
    from voxward.report.tables import metrics_table

    with BarProgress(errors) as progress:
        result = demo(**_without(vars(arguments), "command"), progress=progress)
    console.print(metrics_table(result.evaluation))
    console.print(f"picture: {escape(str(result.picture))}\nrun:     {escape(str(result.run))}")
    _show_attack(result.robustness)
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
    "attack": Command("attack a trained run through its whole pipeline", _attack_arguments, _attack),
    "benchmark": Command("attack several runs and compare them", _benchmark_arguments, _benchmark),
    "demo": Command("train, predict, evaluate and attack in a few minutes", _demo_arguments, _demo),
}


def parser() -> argparse.ArgumentParser:
    """The command line, built from the table."""
    top = argparse.ArgumentParser(prog="voxward", description="Train, attack and harden 3D medical segmentation.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.arguments(commands.add_parser(name, help=command.help, description=command.help))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Exit code 0; 1 where `check` found errors or an attack's own checks failed; 2 for bad input; 130 when interrupted.
    """
    from voxward.training.interrupt import Interrupted

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


def _without(given: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}


if __name__ == "__main__":
    sys.exit(main())
