"""The comparison of attacks, case by case, on records whose figures are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmarks.strongest import figures, table

from tests.robustness.books import record
from voxward.core.errors import UserError

DICE = {
    "strong": {"a": 0.3, "b": 0.2},
    "sea-jsd": {"a": 0.5, "b": 0.4},
    "sea-masked-ce": {"a": 0.25},
}


def book(eps: float = 8 / 255):
    """Records of files; of the members of SEA one was run on case a only."""
    scores = {"deployed_clean": (0.9, 0.7), "gradients": 10}
    return [
        record(attack, case, (dice, dice), eps, deployed=(dice, dice), **scores)
        for attack, found in DICE.items()
        for case, dice in found.items()
    ]


def test_the_members_of_sea_count_as_one_attack_and_their_gradients_add_up():
    lowest, spent = figures(book())
    assert lowest["sea-300"] == {("a", 8 / 255): 0.25, ("b", 8 / 255): 0.4}
    assert [*spent["sea-300"].values()] == [20, 10]


def test_a_table_says_by_how_much_strong_is_above_in_the_worst_case():
    lines = table("m", book()).splitlines()
    assert lines[0] == "m, 2 cases"
    assert lines[-2:] == ["| sea-300 | 0.325 | 15 | +0.050 |", "| strong | 0.250 | 10 | +0.000 |"]


def test_only_what_all_attacks_were_run_on_is_compared():
    extra = record("strong", "c", (0.0, 0.0), 8 / 255, deployed=(0.0, 0.0), deployed_clean=(0.9, 0.7), gradients=10)
    assert table("m", [*book(), extra]) == table("m", book())
    apart = [one for one in book() if one.attack == "strong"] + [one for one in book(0.1) if one.attack != "strong"]
    with pytest.raises(UserError, match="no case and eps has records of all of sea-300, strong"):
        table("m", apart)


def test_one_name_is_one_system():
    with pytest.raises(UserError, match="m is not the same system in all folders"):
        table("m", [*book(), replace(book()[0], system="other")])
