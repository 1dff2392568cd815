"""The section that compares the systems, and shows every attack on each."""

from __future__ import annotations

from dataclasses import dataclass

from voxward.core.errors import UserError
from voxward.report.html.page import Setting
from voxward.report.leaderboard import leaderboard_table
from voxward.report.robustness import robustness_table
from voxward.report.sources import AttackSource, Sources
from voxward.report.table import Table


@dataclass(frozen=True)
class Comparison:
    """The tables of one attack folder.

    Attributes:
        name: The name of the folder.
        tables: A row per system where there are several, then a row per attack.
        problem: Why the records cannot stand in one table; empty where they can.
    """

    name: str
    tables: tuple[Table, ...] = ()
    problem: str = ""


def leaderboard(sources: Sources, setting: Setting) -> tuple[Comparison, ...] | None:
    """Return the tables of each attack folder; None where there is none with records."""
    return tuple(_comparison(one) for one in sources.attacks if one.records) or None


def _comparison(source: AttackSource) -> Comparison:
    try:
        attacks = robustness_table(source.records, source.ensembles, source.findings)
        if len(source.models) == 1:
            return Comparison(source.name, (attacks,))
        return Comparison(source.name, (leaderboard_table(source.records, None, source.findings), attacks))
    except UserError as error:
        return Comparison(source.name, problem=str(error))
