"""How fast each attack lowers the Dice, as a table: the area under its course, and where array and file end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from voxward.report.table import Column, Row, Table
from voxward.report.text import UNDEFINED, number_text
from voxward.robustness.eps import eps_texts
from voxward.robustness.phantom import dice_warnings
from voxward.robustness.record import Record
from voxward.robustness.summary import View, area_over_evaluations

_LEFT, _RIGHT = ("model", "attack"), ("eps", "evaluations", "AUC", "end (array)", "end (file)")
_FIELDS = ("model", "attack", "eps", "evaluations", "area", "end_array", "end_file")
_NOTES = (
    "Dice of the array (tensor) that the attack computes, because no file is written at every evaluation; end (file): "
    "of the written file that was found, which counts in all other tables",
    "AUC: area under the lowest Dice so far over the attack's evaluations, divided by their number; lower: the attack "
    "is faster or stronger. iterations.png draws these courses at the largest eps, and voxward report --figures DIR "
    "--eps EPS at any other",
)


def _chained_notes(records: Sequence[Record]) -> tuple[str, ...]:
    """Return what must be known of attacks that search all sizes in one go; nothing where none was run.

    Args:
        records: Records of one or several models.
    """
    names = sorted({record.attack for record in records if record.kind == "attack" and record.chained})
    if not names:
        return ()
    return (
        f"{', '.join(names)}: searched all sizes in one go. A course holds the evaluations at its own size only, "
        "each after what other sizes had found. So its AUC cannot be compared with that of other attacks, its end can",
    )


def iterations_table(records: Sequence[Record]) -> Table:
    """The course of every attack at every eps that keeps one.

    Args:
        records: Records of one or several models.

    Returns:
        The table, a row per model, attack and eps.
    """
    data = tuple(_rows(View(records)))
    text = eps_texts(records)
    rows = tuple(
        Row(
            (
                model,
                attack,
                text(eps),
                str(count),
                *(number_text(value) if value is not None else UNDEFINED for value in ends),
            )
        )
        for model, attack, eps, count, *ends in data
    )
    columns = (*(Column(name, "left") for name in _LEFT), *map(Column, _RIGHT))
    return Table(
        columns,
        rows,
        notes=(*_NOTES, *_chained_notes(records)),
        warnings=dice_warnings(records),
        fields=_FIELDS,
        data=data,
    )


def _rows(view: View) -> Iterator[tuple[str, str, float, int, float | None, float, float | None]]:
    kept = [record for record in view.records if record.kind == "attack" and record.history]
    for model, attack, eps in sorted({(r.model, r.attack, r.eps) for r in kept if len(r.history) > 1}):
        course = view.history(model, attack, eps)
        # Also those that ended where they began, such as what a smaller size has broken: the course is over them, too.
        own = [one for one in kept if (one.model, one.attack, one.eps) == (model, attack, eps)]
        files = [one.dice(True) for one in own if one.deployed is not None]
        file = math.fsum(files) / len(files) if len(files) == len(own) else None
        yield model, attack, eps, len(course) - 1, area_over_evaluations(course), course[-1], file
