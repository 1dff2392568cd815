"""The commands that combine systems, segment with them, score them, and merge segmentations."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.markup import escape

from voxward.cli.arguments import (
    Arguments,
    Registered,
    cases_arguments,
    channels_argument,
    console,
    device_arguments,
    errors,
    given,
    outcome,
    overwrite_argument,
    print_kept,
    reading_arguments,
    set_argument,
    told,
    trust_argument,
    trusted,
    workers_argument,
)
from voxward.core.choices import Compute, Reading
from voxward.core.errors import UserError
from voxward.core.wording import counted
from voxward.report.progress import ShowProgress

_SYSTEM = "a run folder of `voxward train`, a model of another tool, or a system.yaml"
_ENTRIES = "change an entry of the system, for example --set tta=mirrors; may be given several times"


def compose_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward compose`."""
    parser.add_argument("kind", help="ensemble (the mean of all), cascade (COARSE FINE), or run (one, with settings)")
    parser.add_argument("systems", nargs="+", help="run folders, or other system.yaml files")
    parser.add_argument("--out", required=True, help="the file to write, which ends with .yaml")
    set_argument(parser, "add an entry, for example --set margin=10 or --set mean=probabilities")
    trust_argument(parser)
    overwrite_argument(parser)


def compose(arguments: Arguments) -> int:
    """Run `voxward compose`."""
    from voxward.commands.compose import compose

    written = compose(**given(arguments))
    console.print(f"system: {escape(str(written))}\nnext: voxward evaluate {escape(str(written))} --out DIR")
    return 0


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward export`."""
    parser.add_argument("system", help="a run folder of `voxward train`, or a system.yaml of one run")
    parser.add_argument("--out", required=True, help="the folder to write, which must not exist")
    parser.add_argument(
        "--to",
        choices=Registered("voxward.commands.export", "FORMATS"),
        default="pt2",
        metavar="FORMAT",
        help="pt2 (torch.export), onnx, bundle (MONAI) or nnunet (nnU-Net v2) (default pt2)",
    )
    set_argument(parser, _ENTRIES)


def export(arguments: Arguments) -> int:
    """Run `voxward export`."""
    from voxward.commands.export import export

    found = export(**given(arguments))
    reads = found.description is not None and found.description.name == "system.yaml"
    beside = f"\nnext: voxward evaluate {found.description} DATASET --out DIR" if reads else ""
    console.print(
        f"network: {escape(str(found.network))} (its logits are the run's but for {found.apart:.1g}){escape(beside)}",
        soft_wrap=True,
    )
    return 0


def predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward predict`."""
    parser.add_argument("system", help=_SYSTEM)
    parser.add_argument(
        "inputs", nargs="+", help="volume files, folders of volumes or of DICOM files, or a dataset folder"
    )
    parser.add_argument(
        "--out",
        help="the folder of the predictions (default: RUN/predictions, for a single run); needed for DICOM files, "
        "whose volumes OUT/from-dicom keeps",
    )
    parser.add_argument(
        "--save-probabilities", action="store_true",
        help="write the probability of every class or region, too, into the folder probabilities of the predictions",
    )  # fmt: skip
    _system_arguments(parser)


def predict(arguments: Arguments) -> int:
    """Run `voxward predict`."""
    from voxward.commands.predict import predict

    values = trusted(given(arguments, reading=Reading), "system")
    with ShowProgress(errors) as progress:
        written, failed = outcome(lambda: predict(**values, progress=progress))
    if written:
        console.print(f"{counted(len(written), 'prediction')} in {escape(str(written[0].parent))}")
    print_kept(arguments.out)
    return told(failed)


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward evaluate`."""
    parser.add_argument("system", nargs="?", help=_SYSTEM)
    parser.add_argument(
        "dataset", nargs="?", help="another dataset folder, also of DICOM files (default: the run's validation cases)"
    )
    parser.add_argument("--dataset", dest="labelled", metavar="DATASET", help="the same, by name")
    parser.add_argument(
        "--segmentations", metavar="FOLDER",
        help="score the segmentations in a folder, made by any tool, against the labels of --dataset, instead of a "
        "system's; each is called like its case",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        help="the folder of predictions and metrics (default: the run folder, for a single run); needed for DICOM "
        "files, whose volumes OUT/from-dicom keeps",
    )
    parser.add_argument("--policy", default="ignore", help="what empty masks count: ignore, one, brats, ...")
    parser.add_argument(
        "--nsd-tolerance-mm", type=float, default=2.0, help="the tolerance of the surface Dice in mm (default 2)"
    )
    parser.add_argument(
        "--nsd", default="voxels", help="which surface Dice: voxels (as MONAI, default), or area (as the Decathlon)"
    )
    workers_argument(parser)
    cases_arguments(parser)
    _system_arguments(parser)


def evaluate(arguments: Arguments) -> int:
    """Run `voxward evaluate`."""
    from voxward.commands.evaluate import evaluate
    from voxward.commands.evaluate_segmentations import evaluate_segmentations
    from voxward.core.choices import Cases, Reading
    from voxward.metrics.policies import Scoring
    from voxward.report.metrics import metrics_table

    groups = {"dataset": Cases, "scoring": Scoring, "compute": Compute, "reading": Reading}
    folder = _scored(arguments)
    values = trusted(given(arguments, **groups), *([] if folder is not None else ["system"]))
    with ShowProgress(errors) as progress:
        if folder is None:
            result, failed = outcome(lambda: evaluate(**values, progress=progress))
        else:
            taken = {name: values[name] for name in ("dataset", "out", "scoring", "reading", "overwrite")}
            workers = values["compute"].workers
            result, failed = outcome(
                lambda: evaluate_segmentations(folder, **taken, workers=workers, progress=progress)
            )
    if result is not None:
        console.print(metrics_table(result).terminal())
    print_kept(arguments.out)
    return told(failed)


def _scored(arguments: Arguments) -> str | None:
    """Settle which dataset is meant, and return the folder of segmentations, if there is one.

    Raises:
        UserError: Neither a system nor segmentations are given, or both, or two datasets.
    """
    labelled, folder = vars(arguments).pop("labelled"), vars(arguments).pop("segmentations")
    places = [place for place in (arguments.dataset, labelled) if place is not None]
    if folder is not None:
        # There is no system, so that the only word is the dataset.
        places += [place for place in (arguments.system,) if place is not None]
        if len(places) != 1:
            raise UserError("voxward evaluate --segmentations FOLDER needs one --dataset DATASET, and no system")
        if (Path(places[0]) / "recipe.yaml").is_file():
            raise UserError(f"--segmentations needs the --dataset of the truth, and no system: {places[0]} is a run")
        if arguments.overrides or arguments.resume:
            raise UserError("--set and --resume are about a system, and --segmentations has none")
        del arguments.system
    elif arguments.system is None or len(places) > 1:
        raise UserError("voxward evaluate needs a SYSTEM, or --segmentations FOLDER, and at most one dataset")
    arguments.dataset = places[0] if places else None
    return None if folder is None else str(folder)


def merge_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward merge`."""
    parser.add_argument("first", help="a folder of segmentations, or a system; it decides on --owned-by-first")
    parser.add_argument(
        "second", help="a second folder of the same cases, or a system; it decides on --owned-by-second"
    )
    parser.add_argument("--out", required=True, help="the folder of the merged segmentations")
    parser.add_argument("--inputs", nargs="+", default=[], help="the volumes that systems segment first")
    parser.add_argument(
        "--owned-by-first", nargs="+", type=int, default=[1, 4], help="label values of FIRST (default 1 4)"
    )
    parser.add_argument(
        "--owned-by-second", nargs="+", type=int, default=[2], help="label values of SECOND (default 2)"
    )
    channels_argument(parser)
    trust_argument(parser)
    reading_arguments(parser, "as the systems were trained, else refuse")
    device_arguments(parser)
    overwrite_argument(parser)


def merge(arguments: Arguments) -> int:
    """Run `voxward merge`."""
    from voxward.commands.merge import merge

    values = trusted(given(arguments, reading=Reading), "first", "second")
    with ShowProgress(errors) as progress:
        written, failed = outcome(lambda: merge(**values, progress=progress))
    if written:
        console.print(f"{counted(len(written), 'merged segmentation')} in {escape(arguments.out)}")
    return told(failed)


def _system_arguments(parser: argparse.ArgumentParser) -> None:
    set_argument(parser, _ENTRIES)
    trust_argument(parser)
    channels_argument(parser)
    parser.add_argument("--resume", action="store_true", help="keep what this system has made of these files")
    reading_arguments(parser, "as the run was trained, else refuse")
    overwrite_argument(parser)
    device_arguments(parser)
