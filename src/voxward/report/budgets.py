"""The Dice over the budget: attacks that were run with several budgets, as one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from voxward.report.benchmark import comparable, sizes, with_size_texts
from voxward.report.spent import COST, Spent, cost_text, found_and_spent
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import mean_text
from voxward.robustness.phantom import invented
from voxward.robustness.record import Record
from voxward.robustness.summary import View
from voxward.robustness.sweep import Sweep

_FIELDS = (
    "model", "attack", "budget", "name", "eps", "cases", "dice", "dice_low", "dice_high", "seconds_per_case",
    "gradients_per_case", "forwards_per_case",
)  # fmt: skip
_NOTES = (
    "mean Dice under each attack alone; gradients and forward passes are those of the whole volume for all eps "
    "together",
    "where more steps still lower the Dice, the figures are not converged",
)


def budgets_table(records: Sequence[Record], swept: Sequence[Sweep], deployed: bool | None = None) -> Table | None:
    """The Dice and the cost of attacks that were run with several budgets: a row per attack and budget.

    Args:
        records: Records of one or several models.
        swept: The attacks, see `robustness.sweep.sweeps`.
        deployed: Whether the Dice is that of the written files; by default where every record has it.

    Returns:
        The table, a column per eps; None where no attack has results of several budgets.

    Raises:
        UserError: There are no records, or they do not compare.
    """
    if not swept or invented(records) is not None:  # where a class is invented no Dice counts
        return None
    view = comparable(records, deployed)
    rows, data = list[Row](), list[tuple[Value, ...]]()
    for model, sweep, name, budget in _members(view, swept):
        found = [found_and_spent(view, model, name, eps) for eps in view.eps]
        cells = [mean_text(summary) for summary, _ in found]
        rows.append(Row((model, sweep.attack, budget, *cells, cost_text([spent for _, spent in found]))))
        data += _data((model, sweep.attack, budget, name), view, found)
    if not rows:
        return None
    head = [Column(name, "left") for name in ("model", "attack", "budget")]
    of = "written files" if view.deployed else "arrays, not of files"
    table = Table(
        (*head, *map(Column, sizes(view)), COST), tuple(rows), f"Dice over the budget; Dice of {of}", notes=_NOTES,
        fields=_FIELDS, data=tuple(data),
    )  # fmt: skip
    return with_size_texts(table, records)


def _members(view: View, swept: Sequence[Sweep]) -> Iterator[tuple[str, Sweep, str, str]]:
    """Every model, attack and member of it that has results, where there are at least two of them."""
    run = {(record.model, record.attack) for record in view.records if record.kind == "attack"}
    for model in view.models:
        for sweep in swept:
            mine = {name: options for name, options in sweep.members.items() if (model, name) in run}
            for name, options in mine.items() if len(mine) > 1 else ():
                yield model, sweep, name, budget_text(options)


def budget_text(options: Mapping[str, Any]) -> str:
    """Return a budget as "10 steps"; what is no whole number follows its name.

    Args:
        options: The options in which the members of a sweep differ.
    """
    return ", ".join(f"{value} {key}" if isinstance(value, int) else f"{key} {value}" for key, value in options.items())


def _data(head: tuple[Value, ...], view: View, found: Sequence[tuple[Any, Spent]]) -> Iterator[tuple[Value, ...]]:
    for eps, (summary, spent) in zip(view.eps, found, strict=True):
        if summary is not None:
            yield (*head, eps, summary.n, summary.mean, summary.low, summary.high, *spent.values)
