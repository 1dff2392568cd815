"""The door's commands that attack."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.markup import escape

from voxward.cli.arguments import (
    Arguments,
    cascade_arguments,
    console,
    device_arguments,
    ensemble_arguments,
    errors,
    given,
    overwrite_argument,
    size,
)
from voxward.report.progress import BarProgress

if TYPE_CHECKING:
    from voxward.commands.benchmark import BenchmarkResult


def attack_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward attack` takes."""
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("dataset", help="dataset folder; the run's validation cases are attacked")
    parser.add_argument("--out", help="folder of the records and tables (default: RUN/attack)")
    _threat_arguments(parser, ["autoattack"])


def benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward benchmark` takes."""
    parser.add_argument("runs", nargs="+", help="run folders of `voxward train`")
    parser.add_argument("dataset", help="dataset folder; the runs' common validation cases are attacked")
    parser.add_argument("--out", required=True, help="folder of the records and tables")
    _threat_arguments(parser, ["autoattack", "strong"])


def _threat_arguments(parser: argparse.ArgumentParser, attacks: list[str]) -> None:
    add = parser.add_argument
    add("--attacks", nargs="+", default=attacks, help=f"attacks and ensembles (default: {' '.join(attacks)})")
    sizes = [4 / 255, 8 / 255, 16 / 255]
    add("--eps", nargs="+", type=size, default=sizes, help="sizes of the perturbation (default: 4/255 8/255 16/255)")
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
    ensemble_arguments(parser)
    add("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    add("--seed", type=int, default=0, help="seed of everything random (default 0)")
    add("--erase", help="only this class counts: make it vanish (default: the mean of all classes)")
    add("--save-volumes", action="store_true", help="keep every case's adversarial volumes, not only the first one's")
    add("--budget", action="store_true", help="only estimate the hours this will take")
    add("--graphs", type=int, default=0, help="windows whose graphs may wait in memory: faster (default: one batch's)")
    add("--gradient", default="exact", choices=("exact", "window_mean"), help="window_mean: the ResDSN paper's")
    add("--statistics", default="frozen", choices=("frozen", "live"), help="live: a scan's own move with the attack")
    add("--stage", default="both", choices=("both", "coarse", "fine"), help="of a cascade, with its box held")
    cascade_arguments(parser)
    overwrite_argument(parser)
    device_arguments(parser)


def attack(arguments: Arguments) -> int:
    """Run `voxward attack`."""
    from voxward.commands.attack import attack as run

    with BarProgress(errors) as progress:
        result = run(**given(arguments), progress=progress)
    return show(result)


def benchmark(arguments: Arguments) -> int:
    """Run `voxward benchmark`."""
    from voxward.commands.benchmark import benchmark as run

    with BarProgress(errors) as progress:
        result = run(**given(arguments), progress=progress)
    return show(result)


def show(result: BenchmarkResult) -> int:
    """Print the tables. Exit code 1 where a check failed: the figures are not to be trusted."""
    if result.report is None:
        console.print(f"estimated: {result.hours:.2f} hours on one process like this one")
        return 0
    console.print(result.report.terminal())
    if result.leaderboard is not None:
        console.print(result.leaderboard.terminal())
    console.print(f"records, tables and figures: {escape(str(result.out))}")
    return 0 if result.trustworthy else 1


def demo_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward demo` takes."""
    parser.add_argument("--data", help="a dataset folder (default: synthetic phantoms)")
    parser.add_argument("--out", default="demo", help="folder of the demo (default: demo)")
    parser.add_argument("--recipe", default="dynunet", help="recipe to train (default dynunet)")
    parser.add_argument("--minutes", type=float, default=4.0, help="training time (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=25, help="how many phantoms (default 25)")
    overwrite_argument(parser)


def demo(arguments: Arguments) -> int:
    """Run `voxward demo`."""
    from voxward.commands.demo import demo
    from voxward.report.metrics import metrics_table

    with BarProgress(errors) as progress:
        result = demo(**given(arguments), progress=progress)
    console.print(metrics_table(result.evaluation).terminal())
    console.print(f"picture: {escape(str(result.picture))}\nrun:     {escape(str(result.run))}")
    show(result.robustness)
    return 0
