"""The command that does again what a folder holds."""

from __future__ import annotations

import argparse

from rich.markup import escape

from voxward.cli.arguments import Arguments, console, device_arguments, errors, given
from voxward.report.progress import ShowProgress


def reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward reproduce`."""
    add = parser.add_argument
    add("run", help="a folder of voxward train, harden, attack, evaluate or predict")
    add("--out", help="the folder of the new results (default: RUN-again)")
    add("--dataset", help="the folder in which the dataset lies now, if it was moved; for predict, that of the inputs")
    add("--work", help="which work is done again, where a folder holds several, as train and evaluate (default: first)")
    device_arguments(parser)


def reproduce(arguments: Arguments) -> int:
    """Run `voxward reproduce`.

    Returns:
        The exit code: 1 where something differs by more than is allowed.
    """
    from voxward.commands.reproduce import reproduce

    with ShowProgress(errors) as progress:
        found = reproduce(**given(arguments), progress=progress)
    console.print(found.table().terminal())
    verdict = "differs by more than is allowed"
    if found.met:
        verdict = "the same to the last bit" if found.same else "the same within the tolerance"
    console.print(f"{found.work}: {verdict}\nnew results: {escape(str(found.out))}", soft_wrap=True)
    return int(not found.met)
