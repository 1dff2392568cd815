"""The commands that segment with a trained system, score it, and merge segmentations."""

from __future__ import annotations

import argparse

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
)
from voxward.report.progress import BarProgress


def predict_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward predict` takes."""
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("inputs", nargs="+", help="volume files, folders of volumes, or a dataset folder")
    parser.add_argument("--out", help="folder for the predictions (default: RUN/predictions, of RUN alone)")
    parser.add_argument("--overlap", type=float, help="overlap of the windows, 0 to below 1 (default: the recipe's)")
    cascade_arguments(parser)
    inference_arguments(parser)


def predict(arguments: Arguments) -> int:
    """Run `voxward predict`."""
    from voxward.commands.predict import predict

    with BarProgress(errors) as progress:
        written = predict(**given(arguments), progress=progress)
    console.print(f"{len(written)} predictions in {escape(str(written[0].parent))}")
    return 0


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward evaluate` takes."""
    parser.add_argument("run", help="run folder of `voxward train`")
    parser.add_argument("dataset", nargs="?", help="another dataset folder (default: the run's validation cases)")
    parser.add_argument("--out", help="where predictions and metrics go (default: the run folder)")
    parser.add_argument("--policy", default="ignore", help="what empty masks count: ignore, one, brats, ...")
    parser.add_argument("--nsd-tolerance-mm", type=float, default=2.0, help="tolerance of the surface Dice (default 2)")
    parser.add_argument("--workers", type=int, default=2, help="cases scored at once (default 2)")
    cascade_arguments(parser)
    inference_arguments(parser)


def evaluate(arguments: Arguments) -> int:
    """Run `voxward evaluate`."""
    from voxward.commands.evaluate import evaluate
    from voxward.report.metrics import metrics_table

    with BarProgress(errors) as progress:
        result = evaluate(**given(arguments), progress=progress)
    console.print(metrics_table(result).terminal())
    return 0


def inference_arguments(parser: argparse.ArgumentParser) -> None:
    """What `voxward inference` takes."""
    parser.add_argument("--checkpoint", default="auto", choices=("auto", "best", "last", "swa"))
    ensemble_arguments(parser)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--resume", action="store_true", help="keep predictions that are already there")
    overwrite_argument(parser)
    device_arguments(parser)


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
