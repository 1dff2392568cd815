"""The Dice over the budget is that of the records, found here by counting through them."""

from __future__ import annotations

import csv
import io

from tests.report.html.attack_source import attack_source, sources_of
from tests.robustness.books import book, clean, record
from voxward.report.budgets import budgets_table
from voxward.report.html.page import Setting
from voxward.report.html.sections.leaderboard import leaderboard
from voxward.robustness.protocol import AttackEntry
from voxward.robustness.sweep import Sweep

SWEPT = (
    Sweep("apgd-dice", {"d-5": {"steps": 5}, "d-10": {"steps": 10}, "d-20": {"steps": 20}}),
    Sweep("square", {"s-5": {"queries": 5}, "s-10": {"queries": 10}}),
)
DICE = {"d-5": (0.5, 0.3), "d-10": (0.4, 0.2), "d-20": (0.3, 0.2), "s-5": (0.6, 0.5)}
RECORDS = [clean("a"), clean("b")] + [
    record(name, case, (dice, dice), eps, gradients=int(name[0] == "d" and name[2:]), forwards=7)
    for name, found in DICE.items()
    for case in "ab"
    for eps, dice in zip((0.1, 0.2), found, strict=True)
]


def test_a_row_per_budget_has_its_dice_and_what_it_spent():
    table = budgets_table(RECORDS, SWEPT)
    # Of Square there is only one budget yet: that is no sweep.
    assert [row.cells for row in table.rows] == [
        ("m", "apgd-dice", "5 steps", "0.500", "0.300", "10 + 14"),
        ("m", "apgd-dice", "10 steps", "0.400", "0.200", "20 + 14"),
        ("m", "apgd-dice", "20 steps", "0.300", "0.200", "40 + 14"),
    ]
    assert [column.heading for column in table.columns][3:5] == ["25.5/255", "51/255"]
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert len(rows) == 6
    (one,) = (row for row in rows if (row["name"], row["eps"]) == ("d-20", "0.2"))
    assert (one["budget"], one["dice"], one["cases"], one["gradients_per_case"]) == ("20 steps", "0.2", "2", "20.0")


def test_without_several_budgets_there_is_no_table():
    assert budgets_table(book(), SWEPT) is None
    assert budgets_table(RECORDS, ()) is None


def test_the_page_shows_the_table_of_a_sweep():
    records = [one for one in RECORDS if one.attack in ("clean", "d-10", "d-20")]
    entry = AttackEntry("apgd-dice", "d", sweep={"steps": (10, 20)})
    sources = sources_of(attack_source(records, attacks=(entry,)))
    titles = [table.title for part in leaderboard(sources, Setting()) for table in part.tables]
    assert any("Dice over the budget" in title for title in titles)
