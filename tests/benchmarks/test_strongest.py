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
    "sea-balanced-ce": {"a": 0.6, "b": 0.5},
    "sea-masked-ce": {"a": 0.25, "b": 0.45},
}


def book(eps: float = 8 / 255):
    """Records of files."""
    scores = {"deployed_clean": (0.9, 0.7), "gradients": 10}
    return [
        record(attack, case, (dice, dice), eps, deployed=(dice, dice), **scores)
        for attack, found in DICE.items()
        for case, dice in found.items()
    ]


def test_the_members_of_sea_count_as_one_attack_and_their_gradients_add_up():
    lowest, spent = figures(book())
    assert lowest["sea-300"] == {("a", 8 / 255): 0.25, ("b", 8 / 255): 0.4}
    assert [*spent["sea-300"].values()] == [30, 30]


def test_an_ensemble_has_no_figure_where_a_member_is_missing():
    unfinished = [one for one in book() if (one.attack, one.case) != ("sea-masked-ce", "b")]
    assert figures(unfinished)[0]["sea-300"] == {("a", 8 / 255): 0.25}
    assert table("m", unfinished).startswith("m, 1 case")


def test_a_table_says_by_how_much_strong_is_above_in_the_worst_case():
    lines = table("m", book()).splitlines()
    assert lines[0] == "m, 2 cases"
    assert lines[-2:] == ["| sea-300 | 0.325 | 30 | +0.050 |", "| strong | 0.250 | 10 | +0.000 |"]


def test_a_case_that_lacks_a_size_is_in_no_mean():
    both = [*book(), *(one for one in book(16 / 255) if one.attack == "strong" or one.case == "a")]
    lines = table("m", both).splitlines()
    assert lines[0] == "m, 1 case"
    assert lines[-2:] == ["| sea-300 | 0.250 | 0.250 | 60 | +0.050 |", "| strong | 0.300 | 0.300 | 20 | +0.000 |"]


def test_a_search_of_all_sizes_costs_what_all_of_them_cost():
    strong = [replace(one, chained=True) for one in book(16 / 255) if one.attack == "strong"]
    lines = table("m", [*book(), *strong, *(replace(one, chained=True) for one in book() if one.attack == "strong")])
    assert "| strong | 0.250 | 30 | +0.000 |" in lines


def test_only_what_all_attacks_were_run_on_is_compared():
    extra = record("strong", "c", (0.0, 0.0), 8 / 255, deployed=(0.0, 0.0), deployed_clean=(0.9, 0.7), gradients=10)
    assert table("m", [*book(), extra]) == table("m", book())
    apart = [one for one in book() if one.attack == "strong"] + [one for one in book(0.1) if one.attack != "strong"]
    with pytest.raises(UserError, match="no case and eps has records of all of sea-300, strong"):
        table("m", apart)


def test_what_was_not_attacked_alike_is_not_compared():
    with pytest.raises(UserError, match=r"m was not attacked alike in all folders: .*frozen.* and .*live"):
        table("m", [replace(one, statistics="live" if one.case == "a" else "frozen") for one in book()])


def test_one_name_is_one_system():
    with pytest.raises(UserError, match="m is not the same system in all folders"):
        table("m", [*book(), replace(book()[0], system="other")])
