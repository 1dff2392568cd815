"""The commands that check, plan and prepare a dataset."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from voxward.cli.arguments import (
    Arguments,
    console,
    errors,
    given,
    nan_argument,
    nan_override,
    outcome,
    output_of,
    overwrite_argument,
    reading_arguments,
    recipe_arguments,
    set_argument,
    told,
    workers_argument,
)
from voxward.core.choices import DEVICES, DicomSeries, Fold, Reading
from voxward.core.errors import CasesFailed, UserError
from voxward.core.wording import counted
from voxward.report.progress import ShowProgress

if TYPE_CHECKING:
    from voxward.data.made_dataset import MadeDataset


def check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward check`."""
    parser.add_argument(
        "dataset",
        nargs="?",
        help="the folder of the dataset: MSD, nnU-Net raw, or images/ and labels/; or, without --system, of DICOM "
        "files: one case, or a folder for each",
    )
    parser.add_argument("--dataset", dest="labelled", metavar="DATASET", help="the same, by name")
    parser.add_argument(
        "--system", metavar="MODEL",
        help="check a model of another tool instead: predict cases of the dataset, and count the voxels that are "
        "unlike the masks which the tool itself left in its folder (nnU-Net: fold_N/validation)",
    )  # fmt: skip
    parser.add_argument("--cases", type=int, help="with --system: how many cases of each fold (default 3)")
    set_argument(parser, "with --system: change an entry of the system, for example --set folds=[0]")
    parser.add_argument("--device", choices=DEVICES, help="with --system: the device (default auto)")
    workers_argument(parser)
    reading_arguments(parser)


def check(arguments: Arguments) -> int:
    """Run `voxward check`."""
    _settle_dataset(arguments)
    of_system = {name: vars(arguments).pop(name) for name in ("system", "cases", "overrides", "device")}
    given_ones = {name: value for name, value in of_system.items() if value not in (None, [])}
    if of_system["system"] is not None:
        return _check_system(arguments, given_ones)
    if given_ones:
        raise UserError("--cases, --set and --device of voxward check are about a model: give one with --system")
    return _check_dataset(arguments)


def _settle_dataset(arguments: Arguments) -> None:
    """Make the dataset the one that was given, with or without its name.

    Raises:
        UserError: None is given, or two are.
    """
    places = [place for place in (arguments.dataset, vars(arguments).pop("labelled")) if place is not None]
    if len(places) != 1:
        raise UserError(f"voxward check needs one dataset, got {', '.join(places) or 'none'}")
    arguments.dataset = places[0]


def _check_system(arguments: Arguments, of_system: dict[str, Any]) -> int:
    from voxward.commands.check_system import check_system
    from voxward.report.self_test import self_test_table, verdict

    del arguments.workers
    values = given(arguments, reading=Reading) | of_system
    with ShowProgress(errors) as progress:
        result = check_system(**values, progress=progress)
    if result.cases:
        console.print(self_test_table(result).terminal())
    console.print(escape(verdict(result)), soft_wrap=True)
    return 0 if result.ok else 1


def _check_dataset(arguments: Arguments) -> int:
    from voxward.commands.check import check
    from voxward.report.problems import problems_table, summary

    report = check(**given(arguments, reading=Reading))
    if report.problems:
        console.print(problems_table(report).terminal())
    console.print(summary(report))
    return 0 if report.ok else 1


def from_dicom_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward from-dicom`."""
    parser.add_argument(
        "inputs", nargs="+", metavar="FOLDER",
        help="a folder of DICOM files, which is a case, or one whose folders are the cases; or a multi-frame file",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, help="the folder of the dataset, which must not exist; its layout is nnU-Net's"
    )
    parser.add_argument(
        "--series", action="append", metavar="NAME=TEXT", default=[],
        help="a channel: its name, and a part of the description of its series; may be given several times (default: "
        "the only image series, named after its modality)",
    )  # fmt: skip
    parser.add_argument(
        "--truth", metavar="TEXT", default="",
        help="a part of the description of the segmentation (SEG) or contours (RTSTRUCT) (default: the only one)",
    )  # fmt: skip
    _classes_argument(parser, "segments or structures")
    _fail_fast_argument(parser)


def from_dicom(arguments: Arguments) -> int:
    """Run `voxward from-dicom`."""
    from voxward.commands.from_dicom import from_dicom

    values = given(arguments, wanted=DicomSeries)
    with ShowProgress(errors) as progress:
        result, failed = outcome(lambda: from_dicom(**values, progress=progress))
    return _made(result, failed)


def _made(result: MadeDataset | None, failed: CasesFailed | None) -> int:
    """Print what was made, and return the exit code."""
    code = told(failed)
    if result is not None:
        found = f"{len(result.labelled)} labelled, {len(result.unlabelled)} without ground truth"
        classes = f"; classes: {', '.join(result.classes)}" if result.classes else ""
        place = result.folder if result.labelled else result.folder / "imagesTs"
        console.print(f"dataset: {escape(str(place))} ({found}{escape(classes)})", soft_wrap=True)
    return code


def from_masks_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward from-masks`."""
    parser.add_argument(
        "folder", help="the folder of the cases, such as CASE/ct.nii.gz with CASE/segmentations/liver.nii.gz"
    )
    parser.add_argument(
        "--out", required=True, help="the folder of the dataset, which must not exist; its layout is nnU-Net's"
    )
    _classes_argument(parser, "masks")
    parser.add_argument(
        "--channels", nargs="+", metavar="NAME", default=[],
        help="the images that become channels, by the names of their files (default: the only one)",
    )  # fmt: skip
    _fail_fast_argument(parser)


def from_masks(arguments: Arguments) -> int:
    """Run `voxward from-masks`."""
    from voxward.commands.from_masks import from_masks

    values = given(arguments)
    with ShowProgress(errors) as progress:
        result, failed = outcome(lambda: from_masks(**values, progress=progress))
    return _made(result, failed)


def _classes_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", default=[],
        help=f"the {what} that become classes 1, 2, ...; later ones are written over earlier ones (default: all, "
        "sorted by name, which must not overlap)",
    )  # fmt: skip


def _fail_fast_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first case that fails")


def to_dicom_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward to-dicom`."""
    parser.add_argument(
        "inputs", nargs="+", metavar="FILE", help="masks or volumes that are called like cases, or folders of them"
    )
    parser.add_argument("--dataset", required=True, help="the dataset of `voxward from-dicom`, or OUT/from-dicom")
    parser.add_argument("--out", required=True, help="the folder that gets CASE.dcm, or a folder CASE of slices")
    parser.add_argument(
        "--kind", choices=("segmentation", "image"), default="segmentation",
        help="segmentation: a mask as DICOM SEG; image: an attacked volume as a series that says so (default "
        "segmentation)",
    )  # fmt: skip
    _fail_fast_argument(parser)
    overwrite_argument(parser)


def to_dicom(arguments: Arguments) -> int:
    """Run `voxward to-dicom`."""
    from voxward.commands.to_dicom import to_dicom

    values = given(arguments)
    with ShowProgress(errors) as progress:
        out = output_of(values, progress)
        written, failed = outcome(lambda: to_dicom(**values, out=out))
    code = told(failed)
    if written:
        console.print(f"{counted(len(written), 'case')} in {escape(str(written[0].parent))}", soft_wrap=True)
    return code


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
    with ShowProgress(errors) as progress:
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

    with ShowProgress(errors) as progress:
        _, failed = outcome(lambda: prepare(**given(arguments, fold=Fold, reading=Reading), progress=progress))
    console.print(f"prepared cases are in {escape(arguments.out)}")
    return told(failed)
