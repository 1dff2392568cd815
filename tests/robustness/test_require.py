"""Requirements: their form, and the verdict on records whose figures are known."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.robustness.books import record
from voxward.certificates import CertificatePlan
from voxward.core.errors import UserError
from voxward.robustness.case_certificate import CaseCertificate, Mask, Median
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import CLEAN
from voxward.robustness.require import Measured, judge_requirements, parse_requirement
from voxward.robustness.summary import View


def judge(text, rows, systems=("m",), certificates=(), failed=0):
    return judge_requirements([text], Measured(View(rows, deployed=False), certificates), systems, failed)


def test_the_form():
    found = parse_requirement(" robust_dice_low@8/255 >= 0.80 ")
    assert (found.figure, found.low, found.size, found.sign, found.limit) == ("robust_dice", True, 8 / 255, ">=", 0.8)
    assert parse_requirement("clean_dice > 1/2").limit == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("robust_dice >= 0.8", "needs an eps"),
        ("gaussian_dice >= 0.8", "needs an eps"),
        ("clean_dice@0.1 >= 0.8", "has no eps"),
        ("robust_dise@0.1 >= 0.8", "Did you mean 'robust_dice'"),
        ("robust_dice@0.1 = 0.8", "FIGURE@SIZE >= NUMBER"),
        ("robust_dice@0.1 >= 1/0", "a number or a fraction"),
        ("robust_dice@0.1 >= high", "FIGURE@SIZE >= NUMBER"),
        ("robust_dice@0 >= 0.5", "eps must be above 0"),
        ("robust_dice@-1 >= 0.5", "eps must be above 0"),
        ("certified_dice >= 0.5", "needs a radius in sigma"),
        ("certified_mask >= 0.5", "needs a tau"),
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
    (verdict,) = judge(text, records())
    assert verdict.met is met
    assert verdict.value is None if value is None else verdict.value == pytest.approx(value)
    assert (verdict.system, verdict.requirement) == ("m", text)


@pytest.mark.parametrize(
    ("text", "attack"), [("robust_dice@0.1 >= 0.1", "x"), ("gaussian_dice@0.1 >= 0.1", "gaussian")]
)
def test_what_is_not_over_all_cases_is_not_met(text, attack):
    """The case that is missing might be the worst one."""
    half = [one for one in records() if (one.attack, one.case) != (attack, "b")]
    whole, part = (judge(text, rows)[0] for rows in (records(), half))
    assert (whole.met, whole.unfinished) == (True, False)
    assert (part.met, part.unfinished) == (False, True)


def test_one_case_has_no_interval():
    one = [each for each in records() if each.case == "a"]
    (verdict,) = judge("gaussian_dice_low@0.1 >= 0.1", one)
    assert (verdict.value, verdict.met) == (None, False)


def test_every_system_is_judged():
    found = judge("robust_dice@0.1 >= 0.5", records(), ["m", "none"])
    assert [(verdict.system, verdict.met) for verdict in found] == [("m", True), ("none", False)]


def certificate(case, *medians, mask=0.5):
    """What is certified at radii 1 and 2, and at the threshold .75."""
    found = tuple(Median(float(n), mean, (mean,)) for n, mean in enumerate(medians, 1))
    masks = (Mask(0.75, 0.67, mask, (mask,), 63, 1, 0, 0),)
    return CaseCertificate("m", case, "voxels", 0.25, 200, 0.001, 9, 1, ("x",), 0.9, 0.9, found, masks)


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("certified_dice@1 >= 0.7", 0.7, True),
        ("certified_dice@1 >= 0.71", 0.7, False),
        ("certified_dice_low@1 > 0.6", 0.6, False),
        ("certified_dice@2 >= 0.1", None, False),  # of case b too few runs for this radius
        ("certified_dice@3 >= 0.1", None, False),
        ("certified_mask@0.75 >= 0.45", 0.45, True),
        ("certified_mask@0.9 >= 0.1", None, False),
    ],
)
def test_certificates_are_judged(text, value, met):
    (verdict,) = judge(
        text, records(), certificates=(certificate("a", 0.8, 0.5), certificate("b", 0.6, None, mask=0.4))
    )
    assert verdict.met is met
    assert verdict.value is None if value is None else verdict.value == pytest.approx(value)


def test_a_certificate_of_runs_on_several_machines_meets_nothing():
    mixed = replace(certificate("a", 0.8, 0.5), machines=("a CPU, PyTorch 2.13", "a GPU, PyTorch 2.13"))
    (verdict,) = judge("certified_dice@1 >= 0.1", records(), certificates=(mixed, certificate("b", 0.8, 0.5)))
    assert (verdict.value, verdict.met) == (None, False)


def test_a_case_without_a_certificate_is_waited_for():
    (verdict,) = judge("certified_dice@1 >= 0.7", records(), certificates=(certificate("a", 0.8, 0.5),))
    assert (verdict.value, verdict.met, verdict.unfinished) == (0.8, False, True)
    (alone,) = judge("certified_dice@1 >= 0.7", [], certificates=(certificate("a", 0.8, 0.5),))
    assert (alone.value, alone.met) == (0.8, True)


@pytest.mark.parametrize(
    ("text", "plan", "message"),
    [
        ("certified_dice@1 >= 0.5", None, "needs the entry `certificate`"),
        ("certified_dice@3 >= 0.5", CertificatePlan(), r"one of certificate\.radii \(0\.5, 1, 1\.5, 2\)"),
        ("certified_mask@0.9 >= 0.5", CertificatePlan(), r"one of certificate\.tau \(0\.75\)"),
        ("certified_dice@1 >= 0.5", CertificatePlan(sigma=(0.1, 0.2)), "one kind of noise"),
        ("certified_mask@0.75 >= 0.5", CertificatePlan(sigma=(), changes={"gain": 0.1}), "needs noise in voxels"),
        ("certified_dice@1 >= 2", CertificatePlan(), r"must be in \[0, 1\]"),
    ],
)
def test_a_requirement_on_a_certificate_that_is_not_made_is_refused(text, plan, message):
    attacks = ("apgd-dice",) if plan is None else ()
    (problem,) = Protocol("p", attacks=attacks, certificate=plan, require=(text,)).problems()
    assert re.search(message, problem)


def test_a_requirement_on_a_certificate_of_a_change_is_legal():
    plan = CertificatePlan(sigma=(), changes={"gain": 0.1})
    assert Protocol("p", attacks=(), certificate=plan, require=("certified_dice@1 >= 0.5",)).problems() == []
