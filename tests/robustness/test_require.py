"""Requirements: their form, and the verdict on records whose figures are known."""

from __future__ import annotations

import pytest

from tests.robustness.books import record
from voxward.core.errors import UserError
from voxward.robustness.record import CLEAN
from voxward.robustness.require import judge_requirements, parse_requirement


def test_the_form():
    found = parse_requirement(" robust_dice_low@8/255 >= 0.80 ")
    assert (found.figure, found.low, found.eps, found.sign, found.limit) == ("robust_dice", True, 8 / 255, ">=", 0.8)
    assert parse_requirement("clean_dice > 1/2").limit == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("robust_dice >= 0.8", "needs an eps"),
        ("gaussian_dice >= 0.8", "needs an eps"),
        ("clean_dice@0.1 >= 0.8", "has no eps"),
        ("robust_dise@0.1 >= 0.8", "Did you mean 'robust_dice'"),
        ("robust_dice@0.1 = 0.8", "FIGURE@EPS >= NUMBER"),
        ("robust_dice@0.1 >= 1/0", "a number or a fraction"),
        ("robust_dice@0.1 >= high", "FIGURE@EPS >= NUMBER"),
        ("robust_dice@0 >= 0.5", "eps must be above 0"),
        ("robust_dice@-1 >= 0.5", "eps must be above 0"),
    ],
)
def test_other_forms_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_requirement(text)


def records():
    """Two cases: clean Dice 0.9, under attack 0.8 and 0.4 at eps 0.1."""
    clean = {"clean": (0.9, 0.9)}
    made = [record(CLEAN, case, (0.9, 0.9), 0.0, kind="control", **clean) for case in "ab"]
    made += [
        record(name, case, (0.85, 0.85), 0.1, kind="control", **clean)
        for name in ("noise", "gaussian") for case in "ab"
    ]  # fmt: skip
    return made + [record("x", case, (dice, dice), 0.1, **clean) for case, dice in (("a", 0.8), ("b", 0.4))]


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("clean_dice >= 0.9", 0.9, True),
        ("clean_dice > 0.9", 0.9, False),
        ("robust_dice@0.1 >= 0.6", 0.6, True),
        ("robust_dice@0.1 >= 0.61", 0.6, False),
        ("robust_dice_low@0.1 >= 0.6", 0.4, False),
        ("robust_accuracy@0.1 >= 0.5", 0.5, True),
        ("robust_dice@0.2 >= 0.1", None, False),  # was not measured
        ("robust_dice@0.1 <= 0.7", 0.6, True),
        ("noise_dice@0.1 >= 0.85", 0.85, True),
        ("gaussian_dice@0.1 >= 0.9", 0.85, False),
        ("gaussian_dice@0.2 >= 0.1", None, False),
    ],
)
def test_the_verdict(text, value, met):
    (verdict,) = judge_requirements([text], records(), ["m"], deployed=False)
    assert verdict.met is met
    assert verdict.value is None if value is None else verdict.value == pytest.approx(value)
    assert (verdict.system, verdict.requirement) == ("m", text)


@pytest.mark.parametrize(
    ("text", "attack"), [("robust_dice@0.1 >= 0.1", "x"), ("gaussian_dice@0.1 >= 0.1", "gaussian")]
)
def test_what_is_not_over_all_cases_is_not_met(text, attack):
    """The case that is missing might be the worst one."""
    half = [one for one in records() if (one.attack, one.case) != (attack, "b")]
    whole, part = (judge_requirements([text], rows, ["m"], deployed=False)[0] for rows in (records(), half))
    assert (whole.met, whole.unfinished) == (True, False)
    assert (part.met, part.unfinished) == (False, True)


def test_one_case_has_no_interval():
    one = [each for each in records() if each.case == "a"]
    (verdict,) = judge_requirements(["gaussian_dice_low@0.1 >= 0.1"], one, ["m"], deployed=False)
    assert (verdict.value, verdict.met) == (None, False)


def test_every_system_is_judged():
    found = judge_requirements(["robust_dice@0.1 >= 0.5"], records(), ["m", "none"], deployed=False)
    assert [(verdict.system, verdict.met) for verdict in found] == [("m", True), ("none", False)]
