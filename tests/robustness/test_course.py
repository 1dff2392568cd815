"""How far a benchmark is: what runs, the lowest Dice so far, and how long units are expected to take."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.robustness.books import By, record
from tests.robustness.test_bench import bench  # noqa: F401 - a fixture
from voxward.engine.engine import InProcess
from voxward.robustness.course import LOWEST, BenchCourse, running, searched
from voxward.robustness.estimate import weight_of
from voxward.robustness.record import Phantom
from voxward.robustness.store import RecordStore, StoredWork
from voxward.robustness.unit import Unit


def test_what_runs_is_said_in_words():
    attacked, clean = Unit("run", "apgd-dice", "a", 8 / 255, 0), Unit("run", "clean", "a", None, 0)
    assert running(attacked, "range", (), [8 / 255]) == "run \u00b7 case a \u00b7 apgd-dice \u00b7 eps 8/255"
    assert running(attacked, "native", (), [20.0]) == "run \u00b7 case a \u00b7 apgd-dice \u00b7 eps 20"
    assert running(attacked, "native", ["CT"], [20.0]) == "run \u00b7 case a \u00b7 apgd-dice \u00b7 eps 20 HU"
    assert running(clean, "range") == "run \u00b7 case a \u00b7 clean"


def test_a_search_for_every_size_names_the_smallest_and_the_largest(bench):  # noqa: F811
    units = {unit.attack: unit for unit in (*bench.first_units(), *bench.units())}
    assert searched(units["clean"], bench) == ()
    assert searched(units["apgd-ce"], bench) == (units["apgd-ce"].eps,)
    sizes = searched(units["fab-dice"], bench)
    assert sizes == bench.protocol.threat.eps
    first, last = (f"{size * 255:.3f}".rstrip("0").rstrip(".") for size in (min(sizes), max(sizes)))
    told = running(units["fab-dice"], "range", (), sizes)
    assert told.endswith(f"fab-dice \u00b7 eps {first}/255 to {last}/255")


def test_units_weigh_what_they_may_cost(bench):  # noqa: F811
    weight, units = weight_of(bench), {unit.attack: unit for unit in (*bench.first_units(), *bench.units())}
    trials = bench.trials("m")
    judged = weight(units["clean"])
    assert judged > 0
    for name in ("apgd-ce", "fab-dice", "reach"):
        gradients, forwards = trials[name].cost(bench.target("m").classes)
        assert gradients + forwards + judged < weight(units[name]) <= 4 * gradients + forwards + judged


@pytest.mark.filterwarnings("error")
def test_the_course_of_a_benchmark(bench, tmp_path):  # noqa: F811
    heard, dice = [], {"clean": 0.1, "noise": 0.2, "apgd-ce": 0.3}
    course = BenchCourse(bench, lambda stage, done, total, /, **figures: heard.append((done, total, figures)))

    def work(unit):
        found = dice.get(unit.attack, 0.8)
        kind = "attack" if unit.attack in ("apgd-ce", "fab-dice") else "control"
        return (record(unit.attack, unit.case, (found, found), unit.eps or 0.0, gradients=1, forwards=1, kind=kind),)

    first, others = tuple(bench.first_units()), tuple(bench.units())
    stored = StoredWork(RecordStore(tmp_path), By(work), found=course.found)
    course.plan((*first, *others), stored)
    for units in (first, others):
        InProcess(tmp_path).run(units, stored, course)
    course.close()
    assert [done for done, *_ in heard] == list(range(len(first) + len(others) + 1))
    assert {total for _, total, _ in heard} == {len(first) + len(others)}
    shares = [figures["share"] for *_, figures in heard]
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(1)
    assert shares == sorted(shares)
    # The first four are controls, clean on two cases, clip and noise; only attacks count.
    assert "lowest_dice" not in heard[4][2]
    assert heard[-1][2]["lowest_dice"] == pytest.approx(0.3)
    # Attacks took 1 gradient of the many that they may: once one is finished, others of its kind weigh as little.
    last, total = others[-1], weight_of(bench)(others[-1])
    assert last.attack == "fab-dice"
    assert 1 - shares[-2] < total / sum(map(weight_of(bench), (*first, *others)))


def test_the_dice_of_a_step_is_the_arrays(bench, tmp_path):  # noqa: F811
    heard = []
    course = BenchCourse(bench, lambda stage, done, total, /, **figures: heard.append((stage, figures)))
    (unit, *_) = bench.first_units()
    course.plan([unit], StoredWork(RecordStore(tmp_path), By(lambda unit: ())))
    course.begin(unit)
    course.told(unit, "apgd-dice", 1, 4, {"dice": 0.5})
    assert heard[-1] == ("apgd-dice", {"array_dice": 0.5})


@pytest.mark.parametrize(("unit", "told", "said"), [("range", "8/255", "8/255"), ("native", "20", "20 HU")])
def test_the_size_of_a_step_is_written_as_that_of_its_unit(bench, tmp_path, unit, told, said):  # noqa: F811
    heard, threat = [], replace(bench.protocol.threat, unit=unit)
    one = replace(bench, protocol=replace(bench.protocol, threat=threat))
    course = BenchCourse(one, lambda stage, done, total, /, **figures: heard.append(figures), {"m": ["CT"]})
    (first, *_) = bench.first_units()
    course.plan([first], StoredWork(RecordStore(tmp_path), By(lambda unit: ())))
    course.begin(first)
    course.told(first, "strong", 1, 4, {"eps": told})
    assert heard[-1] == {"eps": said}


def test_the_time_left_is_told_once_an_attack_has_shown_its_pace(bench, tmp_path):  # noqa: F811
    """A unit takes 2 s for files and judging, and 0.01 s for each pass; the clean ones alone cannot tell."""
    heard, now, weight = [], [0.0], weight_of(bench)
    course = BenchCourse(bench, lambda stage, done, total, /, **figures: heard.append(figures), clock=lambda: now[0])
    first, others = tuple(bench.first_units()), tuple(bench.units())

    def seconds(unit):
        return 2 + 0.01 * (weight(unit) - weight(first[0]))

    def work(unit):
        now[0] += seconds(unit)
        return (record(unit.attack, unit.case, (0.5, 0.5)),)

    stored = StoredWork(RecordStore(tmp_path), By(work))
    course.plan((*first, *others), stored)
    InProcess(tmp_path).run(first, stored, course)
    assert all(math.isnan(figures["seconds_left"]) for figures in heard)
    light = [unit for unit in others if weight(unit) <= 2 * weight(first[0])]
    heavy, *rest = [unit for unit in others if unit not in light]
    course.begin(heavy)
    now[0] += seconds(heavy) / 2
    course.told(heavy, "apgd", 1, 2, {})
    ahead = seconds(heavy) / 2 + sum(map(seconds, (*light, *rest)))
    told = next(one["seconds_left"] for one in reversed(heard) if "seconds_left" in one)
    assert told == pytest.approx(ahead, rel=0.3)


def test_no_dice_is_told_of_a_class_that_is_invented(bench):  # noqa: F811
    """It is near 1 however bad the attack is."""
    course = BenchCourse(bench, lambda *heard, **figures: None)
    found = record("apgd-ce", "a", (0.99, 0.99), 0.1)
    course.note([replace(found, phantom=Phantom("lesion", 1.0, 900.0), classes=("not lesion",), clean=(0.99,),
                         adversarial=(0.98,), deployed=None, deployed_clean=None, truth_mm3=())])  # fmt: skip
    assert LOWEST not in course.figures
    course.note([found])
    assert course.figures[LOWEST] == pytest.approx(0.99)
