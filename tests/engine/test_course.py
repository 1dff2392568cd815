"""A course says what runs, and which share of the expected time is over, in several rounds and calls."""

from __future__ import annotations

import pytest

from tests.engine.names import names
from voxward.engine.course import Course
from voxward.engine.engine import InProcess, Watch

WEIGHTS = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 2.0}


def heard_from(**options):
    heard = []
    course = Course(
        "work",
        lambda stage, done, total, /, **figures: heard.append((stage, done, total, figures)),
        lambda unit: f"unit {unit}",
        WEIGHTS.__getitem__,
        **options,
    )
    return course, heard


def test_two_rounds_are_one_course(tmp_path):
    work, (course, heard) = names(tmp_path), heard_from(inner="nothing")
    assert isinstance(course, Watch)
    course.plan("abcd", work)
    for part in ("ab", "cd"):
        InProcess(tmp_path).run(part, work, course)
    course.close()
    heard = [event for event in heard if event[0] == "work"]
    assert [(done, total) for _, done, total, _ in heard] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert [figures.get("running") for *_, figures in heard] == ["unit a", "unit b", "unit c", "unit d", None]
    assert [figures["share"] for *_, figures in heard] == pytest.approx([0.0, 0.1, 0.3, 0.8, 1.0])
    assert all(figures["before"] == 0 for *_, figures in heard)


def test_what_was_finished_before_is_told_apart(tmp_path):
    work, (course, heard) = names(tmp_path, "a", "c"), heard_from(inner="nothing")
    course.plan("abcd", work)
    InProcess(tmp_path).run("abcd", work, course)
    heard = [event for event in heard if event[0] == "work"]
    assert [(figures["running"], figures["share"], figures["before"]) for *_, figures in heard] == [
        ("unit b", pytest.approx(0.6), pytest.approx(0.6)),
        ("unit d", pytest.approx(0.8), pytest.approx(0.6)),
    ]


def test_units_that_are_left_out_no_longer_count(tmp_path):
    work, (course, heard) = names(tmp_path, "a"), heard_from()
    course.plan("abcd", work)
    course.plan("abd", work)
    course.begin("b")
    assert heard == [("work", 1, 3, {"running": "unit b", "share": pytest.approx(0.2), "before": pytest.approx(0.2)})]


def test_a_unit_that_did_not_finish_is_not_done(tmp_path):
    work, (course, heard) = names(tmp_path), heard_from()
    course.plan("ab", work)
    course.begin("a")
    course.end("a")
    course.begin("b")
    assert [event[1] for event in heard] == [0, 0]
    work.results["b"] = "B"
    course.end("b")
    course.begin("a")
    assert heard[-1][1] == 1


@pytest.mark.parametrize(("inner", "shares"), [(None, [0.0, 0.25, 0.5]), ("train", [0.0, 0.5])])
def test_steps_within_a_unit_count(tmp_path, inner, shares):
    work, (course, heard) = names(tmp_path), heard_from(inner=inner)
    course.plan("bd", work)
    course.begin("b")
    course.told("b", "prepare", 1, 2, {"dice": 0.5})
    course.told("b", "train", 20, 20, {})
    assert [figures["share"] for stage, *_, figures in heard if stage == "work"] == pytest.approx(shares)
    assert ("prepare", 1, 2, {"dice": 0.5}) in heard


def test_several_units_run_at_once(tmp_path):
    work, (course, heard) = names(tmp_path), heard_from()
    course.plan("abcd", work)
    for unit in "abc":
        course.begin(unit)
    course.told("a", "train", 1, 2, {})
    course.told("c", "train", 1, 5, {})
    assert heard[-1] == ("work", 0, 4, {"running": "unit a, and 2 others", "share": pytest.approx(0.15), "before": 0.0})
    assert {stage for stage, *_ in heard} == {"work"}  # the steps of one of several units would only confuse
    work.results["a"] = "A"
    course.end("a")
    course.begin("d")
    assert heard[-1][1:3] == (1, 4)
    assert heard[-1][3]["running"] == "unit b, and 2 others"
    assert heard[-1][3]["share"] == pytest.approx(0.2)


def test_an_end_of_nothing(tmp_path):
    course, heard = heard_from()
    course.plan("", names(tmp_path))
    course.close()
    assert heard == [("work", 0, 0, {"share": 0.0, "before": 0.0})]


def test_what_a_unit_took_is_expected_of_its_kind(tmp_path):
    work, (course, heard) = names(tmp_path, "z"), heard_from(kind=str.lower)
    WEIGHTS.update(A=1.0, z=1.0, Z=1.0)

    def do(unit, weight):
        course.begin(unit)
        course.took(unit, unit, weight)
        work.results[unit] = ""
        course.end(unit)

    course.plan("abAzZ", work)
    do("a", 3.0)
    course.begin("b")
    # a took 3, so that A is expected to take 3; b is expected to take 2, and Z 1. What an earlier call did stays 1.
    assert heard[-1][3]["share"] == pytest.approx((3 + 1) / (3 + 2 + 3 + 1 + 1))
    assert heard[-1][3]["before"] == pytest.approx(1 / 10)
    do("A", 5.0)
    course.plan("abAzZ", work)  # a second plan has not forgotten
    course.plan("aAb", work)
    course.begin("b")
    assert heard[-1][3]["share"] == pytest.approx(8 / 10)
