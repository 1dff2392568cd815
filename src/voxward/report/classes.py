"""What is left of each class, or region, under the attack that hurts a case most, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from voxward.core.errors import UserError
from voxward.metrics.summary import Summary, summarise
from voxward.report.benchmark import with_size_texts
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import interval_text
from voxward.robustness.eps import eps_texts
from voxward.robustness.phantom import dice_warnings
from voxward.robustness.record import CLEAN, Record, Scores
from voxward.robustness.summary import View


def classes_table(records: Sequence[Record], deployed: bool) -> Table:
    """The Dice of each class without an attack and under the worst one: a row per model and eps.

    Each cell is the mean over the cases that have the class, with its 95 % bootstrap interval. The worst attack on a
    case is the one with the lowest mean Dice over its classes, so that another attack may hurt a single class more.

    Args:
        records: Records of any number of models, all with the same classes.
        deployed: Whether the Dice is that of the written files.

    Returns:
        The table; the row with eps 0 is that of the clean cases.

    Raises:
        UserError: There are no records.
    """
    if not records:
        raise UserError("there are no records to make a table of")
    classes = records[0].classes
    found = [
        (model, eps, [summarise([case[place] for case in scores]) for place in range(len(classes))])
        for model in View(records).models
        for eps, scores in _scores(View([r for r in records if r.model == model], deployed))
    ]
    text, of = eps_texts(records), "written files" if deployed else "arrays, not of files"
    rows = tuple(Row((model, text(eps), *(interval_text(s, 3) for s in cells))) for model, eps, cells in found)
    data = tuple(
        (model, eps, name, *_figures(summary))
        for model, eps, cells in found
        for name, summary in zip(classes, cells, strict=True)
    )
    table = Table(
        (Column("model", "left"), *(Column(name) for name in ("eps", *classes))), rows,
        caption=f"Dice per class of {of}, each case under the attack with its lowest mean Dice; eps 0: no attack",
        fields=("model", "eps", "class", "cases", "dice", "dice_low", "dice_high"), data=data,
        warnings=dice_warnings(records),
    )  # fmt: skip
    return with_size_texts(table, records)


def _scores(view: View) -> list[tuple[float, list[Scores]]]:
    """(eps, Dice per class of each case) of one model; eps 0 is the clean control."""
    clean = [record.clean_scores(view.deployed) for record in view.records if record.attack == CLEAN]
    worst = view.worst()
    attacked = [(eps, [value.scores for key, value in worst.items() if key.eps == eps]) for eps in view.eps]
    return [(0.0, clean), *attacked]


def _figures(summary: Summary | None) -> tuple[Value, ...]:
    return (0, None, None, None) if summary is None else (summary.n, summary.mean, summary.low, summary.high)
