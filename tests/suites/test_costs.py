"""What fits into the budget of an attack, and what the sum is."""

from __future__ import annotations

import pytest

from tests.suites.made import plan
from voxward.core.choices import Compute
from voxward.core.errors import UserError
from voxward.core.progress import silent
from voxward.report.suite.costs import costs_table
from voxward.suites import costs
from voxward.suites.costs import AttackCost, cases_within, costs_of, limit_of
from voxward.suites.plan import Unit


def test_as_many_cases_as_fit_and_at_least_one():
    whole = AttackCost(10.0, 20, 20)
    assert whole.within(None) == whole.within(10.0) == whole
    assert whole.within(3.2) == AttackCost(3.0, 6, 20)
    assert whole.within(0.1) == AttackCost(0.5, 1, 20)


def test_the_smaller_limit_counts(tmp_path):
    found = plan(tmp_path, tasks={"liver": {"data": "Liver", "attacked": 3}}, overrides=["cases=2"])
    assert limit_of(found, Unit("liver", "rog", "attack")) == 2


def test_a_budget_that_is_too_short_is_said(tmp_path, monkeypatch):
    unit = Unit("liver", "rog", "attack")
    monkeypatch.setattr(costs, "attack_cost", lambda *_: AttackCost(10.0, 20, 20))
    free = plan(tmp_path, systems={"rog": {"recipe": "rog"}})
    assert cases_within(free, unit, "cpu") == (None, "")
    enough = plan(tmp_path, systems={"rog": {"recipe": "rog", "attack_minutes": 10.0}})
    assert cases_within(enough, unit, "cpu") == (None, "")
    short = plan(tmp_path, systems={"rog": {"recipe": "rog", "attack_minutes": 1.0}})
    assert cases_within(short, unit, "cpu") == (2, "the budget of 1 minutes has room for 2 cases")


def test_the_sum_counts_each_cell_and_says_what_is_not_known(tmp_path, monkeypatch):
    systems = {
        "rog": {"recipe": "rog", "minutes": 6.0, "attack_minutes": 5.0}, "hard": {"harden": "rog"},
        "there": {"path": "x"},
    }  # fmt: skip
    found, asked = plan(tmp_path, systems=systems), []

    def cost(_, unit, *rest):
        asked.append(unit.cell)
        if unit.task == "organ":
            raise UserError("no such model")
        return AttackCost(10.0, 20, 20)

    monkeypatch.setattr(costs, "attack_cost", cost)
    result = costs_of(found, Compute(), silent, lambda *_, **__: None)
    # A hardened system is as fast as what it begins with, and is not tried again.
    assert asked == [(task, system) for task in ("liver", "organ") for system in ("rog", "there")]
    # Trainings: rog 6 on two tasks. Attacks on the liver: 5 in the budget, and 10 each of the two others.
    assert result.hours == pytest.approx((6 + 6 + 5 + 10 + 10) / 60)
    table = costs_table(result)
    assert table.warnings[0] == ("not counted, because epochs decide: the trainings of liver, hard; organ, hard")
    assert sum("no such model" in text for text in table.warnings) == 3
    assert table.rows[0].cells == ("liver", "rog", "6.0", "5.0", "10 of 20")
    assert not list(tmp_path.iterdir())
