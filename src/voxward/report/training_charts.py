"""Charts of trainings, architecture searches and cross-validations, from their logs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from voxward.report.chart import Axis, Chart, Line, Panel, Point
from voxward.report.html.strings import STRINGS, say
from voxward.report.run_source import Log, RunSource

_WORDS = STRINGS["histories"]
_STEP, _EPOCH = Axis(_WORDS["step"]), Axis(_WORDS["epoch"])
_DICE = Axis(_WORDS["dice"], limits=(0.0, 1.0))


def training_charts(log: Log, name: str, title: str) -> tuple[Chart, ...]:
    """Return the losses, the validation Dice and the learning rate of a training over its steps.

    Args:
        log: The rows of its log.
        name: What the names of the charts begin with.
        title: What the training is called.

    Returns:
        A chart of each for which the log holds figures.
    """
    rate = _lines(log, "step", ("learning_rate",))
    values = [point.y for line in rate for point in line.points if point.y is not None]
    charts = (
        _chart(f"{name}-loss", say("histories", "chart_loss", name=title), _STEP, Axis(_WORDS["loss"]),
               _lines(log, "step", ("training_loss", "validation_loss", "clean_loss"))),
        _chart(f"{name}-dice", say("histories", "chart_dice", name=title), _STEP, _DICE,
               _lines(log, "step", ("validation_dice", "robust_dice"))),
        _chart(f"{name}-rate", say("histories", "chart_rate", name=title), _STEP,
               Axis(_WORDS["rate"], logarithmic=min(values, default=0.0) > 0), rate, steps=True),
    )  # fmt: skip
    return tuple(chart for chart in charts if chart is not None)


def search_charts(log: Log, name: str, title: str) -> tuple[Chart, ...]:
    """Return the losses, the entropies and the expected cost of an architecture search over its epochs.

    Args:
        log: The rows of its log.
        name: What the names of the charts begin with.
        title: What the search is called.
    """
    parts = (
        ("search_loss", "loss", ("weight_loss", "architecture_loss")),
        ("entropy", "entropy", ("operation_entropy", "input_entropy", "path_entropy")),
        ("cost", "gmacs", ("expected_gmac",)),
    )
    charts = (
        _chart(f"{name}-{part}", say("histories", f"chart_{part}", name=title), _EPOCH, Axis(_WORDS[axis]),
               _lines(log, "epoch", columns))
        for part, axis, columns in parts
    )  # fmt: skip
    return tuple(chart for chart in charts if chart is not None)


def folds_chart(runs: Sequence[RunSource], name: str, title: str) -> Chart | None:
    """Return the validation Dice of all trainings of a cross-validation; None where no log holds any.

    Args:
        runs: The trainings.
        name: The name of the chart.
        title: What the cross-validation is called.
    """
    lines = [
        Line(run.name, line.points, number, number // 8)
        for number, run in enumerate(runs)
        for line in _lines(run.log, "step", ("validation_dice",))
    ]
    return _chart(name, say("histories", "chart_folds", name=title), _STEP, _DICE, lines)


def _lines(log: Log, x: str, columns: Sequence[str]) -> list[Line]:
    """A line for each column that holds a number; what is no number is a gap."""
    found = []
    for place, column in enumerate(columns):
        rows = sorted((row[x], row[column]) for row in log if x in row and column in row and math.isfinite(row[x]))
        points = tuple(Point(at, value if math.isfinite(value) else None) for at, value in rows)
        if any(point.y is not None for point in points):
            found.append(Line(_WORDS[column], points, place, place))
    return found


def _chart(name: str, title: str, x: Axis, y: Axis, lines: Sequence[Line], steps: bool = False) -> Chart | None:
    if not lines:
        return None
    return Chart(name, title, x, y, (Panel(_WORDS["all"], tuple(lines)),), steps=steps)
