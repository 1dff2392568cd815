"""What several commands of the door share: where they print, and arguments that mean the same everywhere."""

from __future__ import annotations

import argparse
import re
from fractions import Fraction
from typing import Any

from rich.console import Console

Arguments = argparse.Namespace
console = Console()
errors = Console(stderr=True)


def given(arguments: Arguments) -> dict[str, Any]:
    """A command's arguments for its function."""
    return {name: value for name, value in vars(arguments).items() if name != "command"}


def size(text: str) -> float:
    """A number or a fraction such as 8/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"must be a number or a fraction such as 8/255, got {text!r}") from error


def take_negative_fractions(parser: argparse.ArgumentParser) -> None:
    """Read -1/255 as the value it is, so that what takes it can say what is legal; newer Pythons do by themselves."""
    parser._negative_number_matcher = re.compile(r"-\.?\d")


def device_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a command computes."""
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))


def overwrite_argument(parser: argparse.ArgumentParser) -> None:
    """Replace what voxward did not write."""
    parser.add_argument(
        "--overwrite", action="store_true",
        help="replace files that voxward did not write, or that were edited since (default: refuse)",
    )  # fmt: skip


def cascade_arguments(parser: argparse.ArgumentParser) -> None:
    """A coarse run that finds the region."""
    parser.add_argument("--cascade", metavar="COARSE", help="a run that finds the region, which RUN then segments")
    parser.add_argument("--margin", type=float, default=20.0, help="of the cascade's box, on every side (default 20)")
    parser.add_argument("--margin-unit", default="voxels", choices=("voxels", "mm"))
    parser.add_argument("--fraction", type=float, default=0.2, help="parts below this share are dropped (default 0.2)")


def ensemble_arguments(parser: argparse.ArgumentParser) -> None:
    """What predicts together."""
    add = parser.add_argument
    add("--members", nargs="+", default=[], metavar="RUN", help="other runs that predict together with it")
    add("--tta", choices=("none", "mirrors", "symmetries"), help="averaged copies (default: the recipe's)")


def recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """A dataset, a recipe, and which of its cases."""
    parser.add_argument("dataset", help="dataset folder")
    parser.add_argument("--recipe", default="rog", help="a packaged recipe (rog, dynunet, ...) or a .yaml file")
    parser.add_argument("--fold", type=int, default=0, help="which fold of the dataset's splits (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="cases prepared at once (default 2)")
    set_argument(parser)


def set_argument(parser: argparse.ArgumentParser) -> None:
    """Changes to what a file says."""
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="change the recipe, e.g. --set training.epochs=100 (repeatable)",
    )  # fmt: skip
