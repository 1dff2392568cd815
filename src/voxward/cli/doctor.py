"""The command that looks at the machine."""

from __future__ import annotations

import argparse

from rich.markup import escape

from voxward.cli.arguments import Arguments, console, device_arguments, errors, given


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward doctor`."""
    parser.add_argument("--folder", default=".", help="a folder on the disk of the results (default: this one)")
    device_arguments(parser)


def doctor(arguments: Arguments) -> int:
    """Run `voxward doctor`.

    Returns:
        The exit code, always 0: what is not ideal is told, and does not stop anything.
    """
    from voxward.commands.doctor import doctor

    found = doctor(**given(arguments))
    console.print(escape(found.text()), soft_wrap=True, highlight=False)
    for problem in found.problems:
        errors.print(f"[yellow]note:[/yellow] {escape(problem)}", soft_wrap=True)
    return 0
