"""The area under the curve of Dice over eps, attack by attack, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from voxward.report.table import Column, Row, Table, Value
from voxward.robustness.phantom import dice_warnings
from voxward.robustness.record import Record
from voxward.robustness.summary import View, area_under_curve

_COLUMNS = (Column("model", "left"), Column("attack", "left"), Column("area under the curve"))


def areas_table(records: Sequence[Record], ensembles: Mapping[str, tuple[str, ...]], deployed: bool) -> Table:
    """Mean Dice over the sizes of the perturbation, from 0 to the largest, for every attack and ensemble.

    A lower area means a stronger attack. This is the figure that the ROG paper compares PGD and APGD by.

    Args:
        records: The records.
        ensembles: The ensembles and the names of their members.
        deployed: Whether the Dice is that of written files.

    Returns:
        The table: the area under Dice over eps, divided by the span of eps; in [0, 1].
    """
    rows, data = [], list[tuple[Value, ...]]()
    for model in sorted({record.model for record in records}):
        own = [record for record in records if record.model == model]
        single = {record.attack: (record.attack,) for record in own if record.kind == "attack"}
        for name, attacks in sorted({**single, **ensembles}.items()):
            points = [(eps, found.mean) for eps, found in View(own, deployed, attacks=attacks).curve(model)]
            if len(points) > 1:
                area = area_under_curve(points)
                rows.append(Row((model, name, f"{area:.3f}")))
                data.append((model, name, area))
    notes = ("area under the mean Dice over eps from 0, divided by the largest eps; lower: a stronger attack",)
    warnings = dice_warnings(records)
    return Table(
        _COLUMNS, tuple(rows), notes=notes, warnings=warnings, fields=("model", "attack", "area"), data=tuple(data)
    )
