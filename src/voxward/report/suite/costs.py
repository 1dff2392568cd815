"""What a suite costs, as a table."""

from __future__ import annotations

from voxward.report.table import Column, Row, Table
from voxward.report.text import UNDEFINED, number_text
from voxward.suites.costs import CellCost, SuiteCosts


def costs_table(costs: SuiteCosts) -> Table:
    """Return the costs of a suite as a table, a row per cell.

    Args:
        costs: The costs.
    """
    columns = (Column("task", "left"), Column("system", "left"), Column("training"), Column("attack"),
               Column("cases"))  # fmt: skip
    data = tuple(
        (one.task, one.system, one.training, None if one.attack is None else one.attack.minutes,
         None if one.attack is None else one.attack.cases)
        for one in costs.cells
    )  # fmt: skip
    unknown = [f"{one.task}, {one.system}: {one.reason}" for one in costs.cells if one.reason]
    open_ended = [f"{one.task}, {one.system}" for one in costs.cells if one.training is None]
    epochs = (f"not counted, because epochs decide: the trainings of {'; '.join(open_ended)}",)
    notes = (
        f"minutes on one process like this one; {costs.hours:.2f} hours in all",
        "every attack with its whole budget: one that leaves nothing ends earlier",
        "not counted: preparing and scoring cases, and the estimate that a budget of an attack needs again",
    )
    return Table(
        columns, tuple(map(_row, costs.cells)), "What the suite costs", notes=notes,
        warnings=(*(epochs if open_ended else ()), *(f"not estimated: {text}" for text in unknown)),
        fields=("task", "system", "training_minutes", "attack_minutes", "cases"), data=data,
    )  # fmt: skip


def _row(cost: CellCost) -> Row:
    training = "epochs" if cost.training is None else number_text(cost.training, 1)
    attack, cases = UNDEFINED, UNDEFINED
    if cost.attack is not None:
        attack = number_text(cost.attack.minutes, 1)
        cases = str(cost.attack.cases)
        if cost.attack.cases < cost.attack.every:
            cases += f" of {cost.attack.every}"
    return Row((cost.task, cost.system, training, attack, cases))
