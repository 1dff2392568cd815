"""A benchmark as a table of its models, the most robust one first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from voxward.report.benchmark import (
    comparable,
    folded_row,
    mixed,
    reading_notes,
    sizes,
    threat_title,
    warnings,
    with_size_texts,
)
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import UNDEFINED, interval_text, mean_text, number_text
from voxward.report.versus import NOT_DISTINGUISHABLE, Versus, difference_text, versus
from voxward.robustness.eps import eps_texts
from voxward.robustness.finding import Finding
from voxward.robustness.phantom import invented
from voxward.robustness.record import Record
from voxward.robustness.sanity import STANDARD, Thresholds, sanity
from voxward.robustness.summary import Curve, View, area_under_curve, breaking_in_files

_FIELDS = (
    "rank", "model", "eps", "cases", "dice", "dice_low", "dice_high", "area", "median_breaking_eps", "vs_first",
    "trustworthy",
)  # fmt: skip

_LAST = Column("area"), Column("breaking eps", short="breaking\neps"), Column("vs first", short="vs\nfirst")


def leaderboard_table(
    records: Sequence[Record],
    ensemble: tuple[str, ...] | None = None,
    findings: Sequence[Finding] | None = None,
    deployed: bool | None = None,
    thresholds: Thresholds = STANDARD,
) -> Table:
    """A row per model, ordered by the area under its worst-case Dice over eps, from eps 0.

    `vs first` is the mean difference in worst-case Dice to the first model over common cases at the largest eps, with
    its bootstrap interval. `breaking eps` is the median over cases of the smallest size that broke the case, of written
    files where there are any.

    Args:
        records: Records of one or several models.
        ensemble: The attacks of the worst case; by default all.
        findings: What the checks found; by default `sanity(records, thresholds)`.
        deployed: Whether the Dice is that of the written files; by default where every record has it.
        thresholds: Limits of the checks and of the robust accuracy.

    Returns:
        The table; its data has a row per model and eps.

    Raises:
        UserError: There are no records, they do not compare, or a model has no clean control.
    """
    view = comparable(records, deployed).over(ensemble)
    places = _places(view)
    distrust = warnings(sanity(records, thresholds) if findings is None else findings)
    attacks = "all attacks" if ensemble is None else ", ".join(ensemble)
    columns = (Column("rank"), Column("model", "left"), *map(Column, ("clean", *sizes(view))))
    table = Table(
        (*columns, *_LAST),
        tuple(_row(view, place) for place in places), threat_title(view),
        notes=(
            f"worst case over {attacks} and clean", *_rank_notes(view), *_breaking_notes(view),
            *reading_notes(view, thresholds),
        ),
        warnings=(*distrust, *mixed(view.records)),
        fields=_FIELDS,
        data=tuple((*row, "no" if distrust else "yes") for place in places for row in _data(place)),
    )  # fmt: skip
    return with_size_texts(table, records)


@dataclass(frozen=True)
class _Place:
    """A model's place. breaking: the median breaking eps as text, and as a number where it is one."""

    rank: int
    model: str
    curve: Curve
    area: float
    breaking: tuple[str, float | None]
    versus: Versus | None


def _places(view: View) -> list[_Place]:
    curves = {model: view.curve(model) for model in view.models}
    areas = {model: _area(curve) for model, curve in curves.items()}
    order = sorted(view.models, key=lambda model: (-areas[model], model))
    return [
        _Place(rank, model, curves[model], areas[model], _breaking(view, model), versus(view, model, order[0]))
        for rank, model in enumerate(order, start=1)
    ]


def _area(curve: Curve) -> float:
    points = [(eps, summary.mean) for eps, summary in curve]
    return area_under_curve(points) if len(points) > 1 else points[0][1]


def _rank_notes(view: View) -> list[str]:
    """What the models are ranked by, and how far a difference between two of them can be relied on."""
    notes = [
        "ranked by area: the area under the worst-case Dice from clean to the largest eps, divided by it; 1 is best"
    ]
    if view.eps and len(view.models) > 1:
        notes.append(
            f"vs first: the mean difference in worst-case Dice to the first model at eps {sizes(view)[-1]}, over "
            f"common cases; {NOT_DISTINGUISHABLE}: its 95 % interval holds 0"
        )
    return notes


def _breaking_notes(view: View) -> list[str]:
    in_files = breaking_in_files(view.records)
    if in_files is None:
        return []
    of = "written file" if in_files else "computed array"
    return [f"breaking eps: the smallest size found whose {of} broke the case, median over cases"]


def _breaking(view: View, model: str) -> tuple[str, float | None]:
    """The median over cases, an unbroken one counting as infinitely far."""
    found = view.breaking_eps(model)
    mine = [record for record in view.records if record.model == model]
    searched = any(r.attack.startswith("fab-") for r in mine) and invented(mine) is None
    if not searched:
        return UNDEFINED, None
    middle = median(math.inf if value is None else value for value in found.values())
    return (eps_texts(view.records)(middle), middle) if math.isfinite(middle) else ("unbroken", None)


def _row(view: View, place: _Place) -> Row:
    dice = dict(place.curve)
    cells = (
        str(place.rank), place.model, mean_text(dice[0.0]), *(interval_text(dice.get(eps)) for eps in view.eps),
        number_text(place.area), place.breaking[0],
        difference_text(None if place.versus is None else place.versus.attacked) if place.rank > 1 else "",
    )  # fmt: skip
    row = folded_row(cells, strong=place.rank == 1)
    # A terminal is narrow: 80 characters hold three sizes.
    last = row.narrow[-1].replace(NOT_DISTINGUISHABLE, "interval\nholds 0").replace(", ", ",\n")
    return replace(row, narrow=(*row.narrow[:-1], last))


def _data(place: _Place) -> list[tuple[Value, ...]]:
    change = None if place.versus is None else place.versus.attacked.mean
    common = (place.area, place.breaking[1], change)
    return [(place.rank, place.model, eps, s.n, s.mean, s.low, s.high, *common) for eps, s in place.curve]
