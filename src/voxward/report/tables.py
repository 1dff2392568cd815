"""An evaluation as tables: for the terminal (rich) and for a page (Markdown). Nothing is printed here."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.markup import escape
from rich.table import Table

from voxward.data.check import CheckReport
from voxward.metrics.summary import Summary
from voxward.systems.evaluate import Evaluation

UNDEFINED = "n/a"
_MEAN = "mean"
_DIGITS = {"iou": 3, "sensitivity": 3, "specificity": 4, "hd95_mm": 2, "nsd": 3}


def metrics_table(evaluation: Evaluation) -> Table:
    """A row per class and one for the cases' mean over classes; `n` counts the cases with a defined Dice."""
    # As narrow as it gets: a line must fit a terminal of 80 columns, numbers uncut.
    table = Table(title=_title(evaluation), title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    short = {"sensitivity": "sens.", "specificity": "spec.", "HD95 mm": "HD95\nmm", "Dice": "Dice [95 %]"}
    for name in _columns(evaluation):
        heading = short.get(name, name.replace("NSD ", "NSD\n"))
        number = name != "class"
        table.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for name, summaries in _rows(evaluation):
        if name == _MEAN:
            table.add_section()
        first, *numbers = _cells(name, summaries, digits=2)
        # How many cases there were goes below the number, or the names would lose their place.
        folded = [cell.replace(" (n", "\n(n") for cell in numbers]
        table.add_row(first, *folded, style="bold" if name == _MEAN else None)
    return table


def problems_table(report: CheckReport) -> Table:
    """A row per problem of a checked dataset: case, severity, kind, and what was found."""
    table = Table("case", "severity", "kind", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("problem", overflow="fold")  # a path that is cut is of no use
    for problem in report.problems:
        style = "red" if problem.severity == "error" else "yellow"
        table.add_row(problem.case, problem.severity, problem.kind, escape(problem.message), style=style)
    return table


def markdown_table(evaluation: Evaluation) -> str:
    """The same table as GitHub Markdown, with its caption underneath."""
    columns = _columns(evaluation)
    lines = [columns, ["---" if name == "class" else "---:" for name in columns]]
    lines += [[cell.replace("|", "\\|") for cell in _cells(*row)] for row in _rows(evaluation)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{body}\n\n{_title(evaluation)}\n"


def _title(evaluation: Evaluation) -> str:
    count = len(evaluation.cases)
    cases = f"{count} case{'s' if count != 1 else ''}"
    return f"{cases}; Dice: mean over cases [95 % bootstrap interval]; empty masks: {evaluation.policy}"


def _columns(evaluation: Evaluation) -> list[str]:
    nsd = f"NSD {evaluation.nsd_tolerance_mm:g} mm"
    return ["class", "Dice", "std", "min", "max", "IoU", "sensitivity", "specificity", "HD95 mm", nsd, "n"]


def _rows(evaluation: Evaluation) -> list[tuple[str, Mapping[str, Summary | None]]]:
    return [*evaluation.classes.items(), (_MEAN, evaluation.means)]


def _cells(name: str, summaries: Mapping[str, Summary | None], digits: int = 3) -> list[str]:
    dice = summaries["dice"]
    if dice is None:
        spread = [UNDEFINED] * 4
    else:
        interval = f"{dice.mean:.3f} [{dice.low:.{digits}f}, {dice.high:.{digits}f}]"
        spread = [interval, *(f"{value:.3f}" for value in (dice.std, dice.minimum, dice.maximum))]
    count = dice.n if dice else 0
    others = [_number(_mean(summaries[metric]), places) + _fewer(summaries[metric], count)
              for metric, places in _DIGITS.items()]  # fmt: skip
    return [name, *spread, *others, str(count)]


def _fewer(summary: Summary | None, count: int) -> str:
    """How many cases define a metric, where it is not as many as the Dice."""
    return "" if summary is None or summary.n == count else f" (n {summary.n})"


def _mean(summary: Summary | None) -> float | None:
    return None if summary is None else summary.mean


def _number(value: float | None, digits: int) -> str:
    return UNDEFINED if value is None else f"{value:.{digits}f}"
