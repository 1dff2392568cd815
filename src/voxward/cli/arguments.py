"""Arguments that mean the same in several commands, and the consoles that all commands print to."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape

from voxward.core.choices import AFFINE_TOLERANCE, DEVICES, Cluster, FoldNumber, Output, Trusted
from voxward.core.errors import CasesFailed, UserError
from voxward.core.progress import Progress

T = TypeVar("T")

Arguments = argparse.Namespace
console = Console()
errors = Console(stderr=True)


def given(arguments: Arguments, **groups: type) -> dict[str, Any]:
    """Return the arguments of the command line for the function of a command.

    Args:
        arguments: What was read from the command line.
        groups: The parameters that take a frozen dataclass, such as `fold=Fold`; arguments that are named like the
            fields of that dataclass go into it.

    Returns:
        The keyword arguments of the function.
    """
    values = {name: value for name, value in vars(arguments).items() if name != "command"}
    built = {
        name: group(**{field.name: values.pop(field.name) for field in fields(group) if field.name in values})
        for name, group in groups.items()
    }
    return values | built


def output_of(values: dict[str, Any], progress: Progress) -> Output:
    """Return the group of arguments that says what a command writes, and take them out of the values.

    Args:
        values: What `given` returned, with `out` and, where the command has them, `overwrite` and `report`.
        progress: What is told how far the work is.
    """
    names = ("overwrite", "report")
    return Output(values.pop("out"), progress=progress, **{n: values.pop(n) for n in names if n in values})


class Registered(Collection[str]):
    """The names in a registry, as choices of an argument.

    The registry is imported when the names are needed, and not when the parser is built, so that the help stays quick.

    Args:
        module: The module of the registry.
        name: The name of the registry in that module.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __contains__(self, value: object) -> bool:
        return value in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> tuple[str, ...]:
        return tuple(getattr(import_module(self.module), self.name))


def outcome(work: Callable[[], T]) -> tuple[T | None, CasesFailed | None]:
    """Do the work of a command on many cases.

    Args:
        work: The call of the command.

    Returns:
        What the command returned, also where some cases failed (None where no case is left); and what failed.
    """
    try:
        return work(), None
    except CasesFailed as failed:
        return failed.result, failed


def told(failed: CasesFailed | None) -> int:
    """Print which cases failed, if any did.

    Returns:
        The exit code: 1 where a case failed.

    Raises:
        CasesFailed: No case is left: nothing was done.
    """
    if failed is None:
        return 0
    if not failed.result:
        raise failed
    errors.print(f"[red]failed:[/red] {escape(str(failed))}", soft_wrap=True)
    return 1


DEFENCES = Registered("voxward.training.defence", "DEFENCES")


def size(text: str) -> float:
    """Read a number or a fraction such as 8/255.

    Args:
        text: The text of the argument.

    Raises:
        argparse.ArgumentTypeError: The text is neither.
    """
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"must be a number or a fraction such as 8/255, got {text!r}") from error


def take_negative_fractions(parser: argparse.ArgumentParser) -> None:
    """Let a parser read -1/255 as a value and not as a flag, as newer versions of Python do by themselves."""
    parser._negative_number_matcher = re.compile(r"-\.?\d")


def device_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument for the device that a command computes on."""
    parser.add_argument(
        "--device", default="auto", choices=DEVICES,
        help="the device to compute on; auto is a CUDA device if there is one, mps a GPU of Apple, xpu one of Intel "
        "(default auto)",
    )  # fmt: skip


def cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the cluster on which a command does its units of work."""
    parser.add_argument(
        "--cluster", dest="address", metavar="WHERE",
        help="do the work on a Dask cluster: local:N (processes of this machine), tcp://HOST:PORT, or the file that a "
        "scheduler wrote; docs/scaling.md says more (default: in this process)",
    )  # fmt: skip
    parser.add_argument(
        "--resources", nargs="+", type=resource, default=[], metavar="NAME=AMOUNT",
        help="what a worker of the cluster must offer to be given work, such as GPU=1 MEMORY=16e9",
    )  # fmt: skip
    parser.add_argument(
        "--attempts", type=int, default=3, metavar="N",
        help="how many workers of the cluster may be lost with one piece of work before it fails (default 3)",
    )  # fmt: skip


def clustered(values: dict[str, Any]) -> dict[str, Any]:
    """Turn what `cluster_arguments` added into the cluster of a command, which is a part of `compute` where it has one.

    Args:
        values: The arguments of a command, which are changed.

    Returns:
        The values.

    Raises:
        UserError: Resources are given without a cluster.
    """
    address, resources, attempts = (values.pop(name) for name in ("address", "resources", "attempts"))
    if address is None and resources:
        raise UserError("--resources says what the workers of a cluster must offer: give --cluster too")
    cluster = None if address is None else Cluster(address, dict(resources), attempts)
    if "compute" in values:
        return {**values, "compute": replace(values["compute"], cluster=cluster)}
    return {**values, "cluster": cluster}


def resource(text: str) -> tuple[str, float]:
    """Read NAME=AMOUNT.

    Raises:
        argparse.ArgumentTypeError: The text is something else.
    """
    name, equals, amount = text.partition("=")
    try:
        return name, float(amount if equals else "")
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be NAME=AMOUNT, such as GPU=1, got {text!r}") from None


def report_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument that leaves out the page on what was measured."""
    parser.add_argument(
        "--no-report", action="store_false", dest="report", help="do not write report.html, a page on the results"
    )


def devices_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument for the number of processes that train one network together."""
    parser.add_argument(
        "--devices", type=int, default=1, help="the number of processes that train together, by DDP (default 1)"
    )
    parser.add_argument(
        "--nodes", type=int, default=1,
        help="the number of nodes that train together, each with --devices processes; torchrun or srun starts this "
        "command on each of them (default 1)",
    )  # fmt: skip


def nan_argument(parser: argparse.ArgumentParser, default: str = "refuse") -> None:
    """Add the arguments for what is done about NaN in images, about files that lie apart, and about links.

    Args:
        parser: The parser of the command.
        default: What is done where the argument is not given, for the help.
    """
    parser.add_argument(
        "--nan", choices=("refuse", "zero"),
        help=f"zero reads NaN in images as 0, refuse makes it an error (default: {default})",
    )  # fmt: skip
    tolerance_argument(parser)
    links_argument(parser)


def tolerance_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument for how far the files of a case may lie apart."""
    parser.add_argument(
        "--affine-tolerance", type=float, metavar="VOXELS",
        help=f"how far the corners of two files of a case may lie apart (default: {AFFINE_TOLERANCE:g} of a voxel)",
    )  # fmt: skip


def links_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag that allows files outside of the folder of a dataset."""
    parser.add_argument(
        "--follow-links", action="store_true",
        help="read also files outside of the dataset's folder, to which symbolic links or dataset.json lead (default: "
        "refuse them)",
    )  # fmt: skip


def reading_arguments(parser: argparse.ArgumentParser, nan: str = "refuse") -> None:
    """Add the arguments for what is done about bad files among many.

    Args:
        parser: The parser of the command.
        nan: What is done about NaN by default, for the help.
    """
    nan_argument(parser, nan)
    parser.add_argument(
        "--fail-fast", action="store_true",
        help="stop at the first case that fails (default: go on, list the cases that failed, and exit with code 1)",
    )  # fmt: skip


def nan_override(values: dict[str, Any]) -> list[str]:
    """Take the arguments of `nan_argument` out of the values, and return them as changes of the recipe."""
    said = {name: values.pop(name) for name in ("nan", "affine_tolerance")}
    return [f"preparation.{name}={value}" for name, value in said.items() if value is not None]


def trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag that allows the programs of a system to run."""
    parser.add_argument(
        "--trust", action="store_true",
        help="run the programs that a system consists of: TorchScript, or a Python function named in a system.yaml",
    )  # fmt: skip


def trusted(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """Take the flag out of the values, and put it around the systems.

    Args:
        values: The arguments of a command, which are changed.
        names: The arguments that name systems.

    Returns:
        The values.
    """
    if values.pop("trust"):
        for name in names:
            held = values[name]
            values[name] = [Trusted(each) for each in held] if isinstance(held, list) else Trusted(held)
    return values


def workers_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument for the number of cases that are prepared at once."""
    parser.add_argument(
        "--workers", type=int, default=2, help="the number of cases that are read or prepared at once (default 2)"
    )


def seed_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument for the seed."""
    parser.add_argument("--seed", type=int, default=0, help="the seed of everything that is drawn (default 0)")


def channels_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names the channels of the volumes."""
    parser.add_argument(
        "--channels", type=_names, default=(), metavar="NAME,NAME",
        help="what the channels of the files are, in their order (default: what the dataset declares)",
    )  # fmt: skip


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def overwrite_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag that replaces files which voxward did not write."""
    parser.add_argument(
        "--overwrite", action="store_true",
        help="replace files that voxward did not write, or that were edited since; the default refuses to",
    )  # fmt: skip


def recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for a dataset, a recipe, and the part of the dataset that is learnt from."""
    parser.add_argument("dataset", help="the folder of the dataset")
    parser.add_argument("--recipe", default="rog", help="a packaged recipe (rog, dynunet, ...) or a .yaml file")
    parser.add_argument(
        "--fold", type=fold_number, default=0, metavar="N|all",
        help="the fold that is held out, counted from 0 (default 0); all: train on every case, and hold none out",
    )  # fmt: skip
    parser.add_argument(
        "--folds", type=int, default=5, help="the number of folds of a dataset without splits of its own (default 5)"
    )
    parser.add_argument(
        "--exclude", metavar="CSV", help="a list of cases that are not learnt from, see `voxward suspects`"
    )
    seed_argument(parser)
    workers_argument(parser)
    set_argument(parser)


def fold_number(text: str) -> FoldNumber:
    """Read the number of a fold, or `all`."""
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be the number of a fold, or all, got {text!r}") from None


def set_argument(parser: argparse.ArgumentParser, text: str = "") -> None:
    """Add the argument for changes to a recipe, a system or a protocol.

    Args:
        parser: The parser of the command.
        text: The help; the default speaks of the recipe.
    """
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help=text or "change the recipe, for example --set training.epochs=100; may be given several times",
    )  # fmt: skip


def cases_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the cases of a dataset that are scored or attacked."""
    parser.add_argument(
        "--split", default="validation",
        help="the cases: validation (of another dataset than the run's: all labelled ones but its test cases), test "
        "(the labelled test cases) or all (default validation)",
    )  # fmt: skip
    parser.add_argument(
        "--include-seen", action="store_true",
        help="score also cases that the system was trained on, and say which ones they are; they flatter",
    )  # fmt: skip


def print_kept(out: str | Path | None) -> None:
    """Say where a command keeps volumes of DICOM files, if it does: they show the patient.

    Args:
        out: The folder of its results.
    """
    from voxward.data.dicom.door import keeps_volumes

    if out is not None and (place := keeps_volumes(out)) is not None:
        console.print(
            f"volumes of the DICOM files, which are identifiable and stay there: {escape(str(place))}", soft_wrap=True
        )
