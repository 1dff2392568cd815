"""How far a benchmark is: what runs, the lowest Dice so far, and how long units are expected to take."""

from __future__ import annotations

import pytest

from tests.robustness.books import By, record
from tests.robustness.test_bench import bench  # noqa: F401 - a fixture
from voxward.engine.engine import InProcess
from voxward.robustness.course import BenchCourse, running
from voxward.robustness.estimate import weight_of
from voxward.robustness.store import RecordStore, StoredWork
from voxward.robustness.unit import Unit


def test_what_runs_is_said_in_words():
    assert running(Unit("run", "apgd-dice", "a", 8 / 255, 0), "range") == "apgd-dice at 8/255 on a (run)"
    assert running(Unit("run", "apgd-dice", "a", 20.0, 0), "native") == "apgd-dice at 20 on a (run)"
    assert running(Unit("run", "apgd-dice", "a", 20.0, 0), "native", ["CT"]) == "apgd-dice at 20 HU on a (run)"
    assert running(Unit("run", "clean", "a", None, 0), "range") == "clean on a (run)"


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
