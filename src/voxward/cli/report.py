"""The commands that write the page of a report, and that serve it to a browser."""

from __future__ import annotations

import argparse

from rich.markup import escape

from voxward.cli.arguments import Arguments, console, given, links_argument, overwrite_argument


def report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward report`."""
    add = parser.add_argument
    add("folders", nargs="+", metavar="FOLDER", help="folders of voxward attack, train, harden, search, cv or suite")
    add("--out", default="report.html", help="the HTML file (default report.html)")
    add("--card", metavar="FILE", help="also write a model card as Markdown, with the fields that Hugging Face reads")
    add("--figures", metavar="DIR", help="also write every figure as SVG and PDF, in the size of a paper's columns")
    add("--title", default="", help="the heading of the page")
    add(
        "--embed", default="auto", choices=("auto", "all", "none"),
        help="which volumes are inside the page: those that fit, all, or none; the others lie beside it (default auto)",
    )  # fmt: skip
    add(
        "--eps", help="the size at which the courses of the attacks are drawn, such as 8/255 (default: the largest one)"
    )
    add("--data", help="the folder of the dataset, if it was moved since")
    links_argument(parser)
    overwrite_argument(parser)


def report(arguments: Arguments) -> int:
    """Run `voxward report`.

    Returns:
        The exit code: 1 where nothing at all could be shown.
    """
    from voxward.commands.report import write_report
    from voxward.core.choices import Look

    page = write_report(**given(arguments, look=Look))
    console.print(f"report: {escape(str(page.path))}", soft_wrap=True)
    if arguments.card is not None:
        console.print(f"model card: {escape(arguments.card)}", soft_wrap=True)
    if arguments.figures is not None:
        console.print(f"figures: {escape(arguments.figures)}", soft_wrap=True)
    return int(page.empty)


def serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward serve`."""
    add = parser.add_argument
    add("path", help="a report (.html), of which the page and its volumes are served; or the folder of one")
    add("--port", type=int, default=0, help="the port (default: any free one)")
    add(
        "--host", default="127.0.0.1",
        help="the address to listen on; any but this machine's own needs --token (default 127.0.0.1)",
    )  # fmt: skip
    add("--token", help="what everybody who opens the page must know, at least 16 characters; auto draws one")
    add("--open", action="store_true", dest="open_browser", help="open the page in the default browser")


def serve(arguments: Arguments) -> int:
    """Run `voxward serve`, until Ctrl-C ends it, which is how it is meant to end."""
    from voxward.commands.serve import serve

    with serve(**given(arguments)) as serving:
        console.print(f"serving {escape(serving.url)}\nCtrl-C ends it", soft_wrap=True, highlight=False)
        try:
            serving.wait()
        except KeyboardInterrupt:
            console.print("ended")
    return 0
