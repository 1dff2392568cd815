"""The command that writes the page of a report."""

from __future__ import annotations

import argparse

from rich.markup import escape

from voxward.cli.arguments import Arguments, console, given, overwrite_argument


def report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward report`."""
    add = parser.add_argument
    add("folders", nargs="+", metavar="FOLDER", help="folders of voxward attack, train, harden, search or cv")
    add("--out", default="report.html", help="the HTML file (default report.html)")
    add("--title", default="", help="the heading of the page")
    add(
        "--embed", default="auto", choices=("auto", "all", "none"),
        help="which volumes are inside the page: those that fit, all, or none; the others lie beside it (default auto)",
    )  # fmt: skip
    add("--data", help="the folder of the dataset, if it was moved since")
    overwrite_argument(parser)


def report(arguments: Arguments) -> int:
    """Run `voxward report`."""
    from voxward.commands.report import write_report
    from voxward.core.choices import Look

    page = write_report(**given(arguments, look=Look))
    console.print(f"report: {escape(str(page))}", soft_wrap=True)
    return 0
