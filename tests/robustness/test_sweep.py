"""A sweep over the budget: what a protocol writes in short, and which attacks differ in their budget only."""

from __future__ import annotations

import pytest

from voxward.core.errors import UserError
from voxward.robustness.protocol import AttackEntry, load_protocol
from voxward.robustness.sweep import sweeps
from voxward.robustness.trials import plan_trials
from voxward.robustness.trials.trial import Target

SHORT = """attacks=[{attack: apgd-dice, options: {restarts: 2}, sweep: {steps: [10, 20]}},
{attack: square, sweep: {queries: [5, 10]}}]"""
LONG = """attacks=[{attack: apgd-dice, name: apgd-dice-10, options: {restarts: 2, steps: 10}},
{attack: apgd-dice, name: apgd-dice-20, options: {restarts: 2, steps: 20}},
{attack: square, name: square-5, options: {queries: 5}}, {attack: square, name: square-10, options: {queries: 10}}]"""


def test_the_short_way_runs_what_the_long_way_runs(two_organs):
    short, long = (plan_trials(Target(load_protocol("quick", [text]), two_organs)) for text in (SHORT, LONG))
    assert list(short) == list(long)
    for name in ("apgd-dice-10", "apgd-dice-20", "square-5", "square-10"):
        assert short[name].attack() == long[name].attack()
        assert short[name].sizes(0) == long[name].sizes(0)
    assert short["apgd-dice-20"].attack().steps == 20


def test_a_sweep_is_what_differs_in_the_budget_only():
    protocol = load_protocol(
        "quick", [SHORT[:-1] + ", apgd-dice, {attack: pgd-dice, sweep: {alpha: [0.02, 0.01]}}, fgsm-ce]"]
    )
    found = {sweep.attack: dict(sweep.members) for sweep in sweeps(protocol, 3)}
    assert found == {
        # The one without a name has other steps and restarts: it is of the same attack with another budget.
        "apgd-dice": {"apgd-dice": {"steps": 10, "restarts": 1}, "apgd-dice-10": {"steps": 10, "restarts": 2},
                      "apgd-dice-20": {"steps": 20, "restarts": 2}},
        "square": {"square-5": {"queries": 5}, "square-10": {"queries": 10}},
        "pgd-dice": {"pgd-dice-0.01": {"alpha": 0.01}, "pgd-dice-0.02": {"alpha": 0.02}},
    }  # fmt: skip
    assert list(found["square"]) == ["square-5", "square-10"]
    assert list(found["pgd-dice"]) == ["pgd-dice-0.01", "pgd-dice-0.02"]


@pytest.mark.filterwarnings("ignore:APGD with")
def test_the_member_of_an_ensemble_belongs_to_the_sweep():
    """The ROG paper: 5, 10, 15 and 20 steps, and 500, 1000 and 5000 queries."""
    found = {sweep.attack: dict(sweep.members) for sweep in sweeps(load_protocol("rog-paper"), 3)}
    assert [one["steps"] for one in found["apgd-ce"].values()] == [5, 10, 15, 20]
    assert list(found["apgd-ce"]) == ["apgd-ce", "apgd-ce-10", "apgd-ce-15", "apgd-ce-20"]
    assert [one["queries"] for one in found["square"].values()] == [500, 1000, 5000]
    assert sweeps(load_protocol("autoattack"), 3) == ()


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{}", None),
        ("{steps: 5}", "sweep.steps must be a list, got 5"),
        ("{steps: []}", "sweep.steps must hold at least one value"),
        ("{steps: [5], restarts: [2]}", "sweep must name one option, such as"),
        ("{restarts: [2, 3]}", "restarts must be in sweep or in options, got both"),
        ("{steps: [10, 10]}", "attacks must have different names, got apgd-ce-10 twice"),
    ],
)
def test_what_is_no_sweep_is_refused(sweep, message):
    change = f"attacks=[{{attack: apgd-ce, options: {{restarts: 1}}, sweep: {sweep}}}]"
    if message is None:
        assert load_protocol("quick", [change]).entries == (AttackEntry("apgd-ce", None, {"restarts": 1}),)
        return
    with pytest.raises(UserError, match=message):
        load_protocol("quick", [change])


def test_an_option_that_the_attack_does_not_have_is_refused(two_organs):
    protocol = load_protocol("quick", ["attacks=[{attack: square, sweep: {steps: [5, 10]}}]"])
    with pytest.raises(UserError, match="steps"):
        plan_trials(Target(protocol, two_organs))
