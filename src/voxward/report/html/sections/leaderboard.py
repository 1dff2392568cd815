"""The section that compares the systems, and shows every attack on each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from voxward.core.errors import UserError
from voxward.report.benchmark import comparable, sizes
from voxward.report.budgets import budgets_table
from voxward.report.html.compared import alike, names_in, records_in, unfinished_in
from voxward.report.html.page import Setting
from voxward.report.html.strings import count, listed, say
from voxward.report.leaderboard import leaderboard_table
from voxward.report.robustness import robustness_table, with_all_attacks
from voxward.report.sources import AttackSource, Sources
from voxward.report.table import Column, Row, Table
from voxward.report.text import UNDEFINED, number_text
from voxward.report.weights import weights_of
from voxward.robustness.finding import Finding
from voxward.robustness.record import Record
from voxward.robustness.sanity import STANDARD, sanity
from voxward.robustness.summary import View
from voxward.robustness.sweep import Sweep, sweeps


@dataclass(frozen=True)
class Comparison:
    """Tables of one attack folder, or of several that were measured alike.

    Attributes:
        name: The name of the folder, or of all of them.
        tables: The tables.
        problem: Why the records cannot stand in one table; empty where they can.
        folded: Whether a reader must open it, because it is of use to few.
    """

    name: str
    tables: tuple[Table, ...] = ()
    problem: str = ""
    folded: bool = False


def leaderboard(sources: Sources, setting: Setting) -> tuple[Comparison, ...] | None:
    """Return a ranking of all systems that were measured alike, then every attack of each folder; None without any."""
    found = sources.attacked
    groups = alike(found)
    weights = weights_of(sources)
    boards = [board for group in groups if (board := _board(group, weights)) is not None]
    apart = (
        [Comparison(say("leaderboard", "apart"), problem=say("leaderboard", "apart_text"))] if len(groups) > 1 else []
    )
    return (*apart, *boards, *(_attacks(one) for one in found)) or None


def _board(group: Sequence[AttackSource], weights: Mapping[tuple[str, str], int]) -> Comparison | None:
    """The ranking of some folders; None where there is one system only."""
    names = names_in(group)
    if len(names) < 2:
        return None
    records, unfinished = records_in(group), unfinished_in(group)
    title = listed([one.name for one in group])
    if not records:
        return Comparison(title, problem=say("leaderboard", "unfinished_all"))
    try:
        board = leaderboard_table(records, None, _findings(group, records))
        known = {names[key]: number for key, number in weights.items() if key in names}
        left = [count("leaderboard", "unfinished", len(unfinished))] if unfinished else []
        board = replace(board, warnings=(*left, *_unequal(records), *board.warnings))
        return Comparison(say("leaderboard", "ranking", names=title), (_widened(board, records, known),))
    except UserError as error:
        return Comparison(title, problem=str(error))


def _unequal(records: Sequence[Record]) -> list[str]:
    """Say that systems were not measured on the same scans, where that is so: no check of one system sees it."""
    scans: dict[str, set[str]] = {}
    for record in records:
        scans.setdefault(record.model, set()).add(record.case)
    counts = [f"{model} {len(found)}" for model, found in scans.items()]
    alike = all(found == next(iter(scans.values())) for found in scans.values())
    return [] if alike else [say("leaderboard", "unequal", counts=listed(counts))]


def _findings(group: Sequence[AttackSource], records: Sequence[Record]) -> Sequence[Finding]:
    if len(group) == 1:
        return group[0].findings
    protocol = group[0].protocol
    return sanity(records, STANDARD if protocol is None else protocol.sanity)


def _widened(board: Table, records: Sequence[Record], weights: Mapping[str, int]) -> Table:
    """The ranking with what a system keeps, costs and weighs beside it."""
    view = comparable(records)
    last = max(view.eps, default=None)
    columns = [Column(say("leaderboard", "seconds"))]
    if last is not None:
        columns.insert(0, Column(say("leaderboard", "accuracy", size=sizes(view)[-1])))
    if weights:
        columns.append(Column(say("leaderboard", "weights")))
    rows = [Row((*row.cells, *_more(view, row.cells[1], last, weights)), row.strong) for row in board.rows]
    notes = [say("leaderboard", "seconds_note"), *([say("leaderboard", "accuracy_note")] if last is not None else [])]
    return replace(board, columns=(*board.columns, *columns), rows=tuple(rows), notes=(*board.notes, *notes))


def _more(view: View, model: str, last: float | None, weights: Mapping[str, int]) -> list[str]:
    cells = []
    if last is not None:
        kept = view.robust_accuracy(model, last)
        cells.append(UNDEFINED if kept is None else f"{kept.mean:.0%}")
    mine = [record for record in view.records if record.model == model and record.kind == "attack"]
    cases = {record.case for record in mine}
    cells.append(number_text(math.fsum(record.seconds for record in mine) / len(cases) if cases else None, 1))
    if weights:
        cells.append(f"{weights[model] / 1e6:.2f}" if model in weights else UNDEFINED)
    return cells


def _attacks(source: AttackSource) -> Comparison:
    limits = STANDARD if source.protocol is None else source.protocol.sanity
    groups = with_all_attacks(source.records, source.ensembles)
    try:
        tables = (
            robustness_table(source.records, groups, source.findings, thresholds=limits),
            budgets_table(source.records, _swept(source)),
        )
        return Comparison(source.name, folded=True, tables=tuple(table for table in tables if table is not None))
    except UserError as error:
        return Comparison(source.name, problem=str(error))


def _swept(source: AttackSource) -> tuple[Sweep, ...]:
    """The attacks that were run with several budgets, where the folder says how they were run."""
    if source.protocol is None:
        return ()
    try:
        return sweeps(source.protocol, max((len(record.classes) for record in source.records), default=1) + 1)
    except UserError:  # an attack of another version
        return ()
