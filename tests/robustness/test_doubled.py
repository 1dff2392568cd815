"""The strongest attack with twice its budget: which one it is, on which cases, and what its records say."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest

from tests.robustness.books import clean, record
from tests.robustness.build import a_bench
from tests.robustness.lesion import lesion_case, lesion_predictor
from voxward.attacks.budget import Budget
from voxward.engine.engine import InProcess
from voxward.robustness.bench import Worker
from voxward.robustness.measure import measure
from voxward.robustness.protocol import Protocol, Threat
from voxward.robustness.skipped import NotApplicable
from voxward.robustness.store import RecordStore
from voxward.robustness.trials import plan_trials
from voxward.robustness.trials.trial import Target
from voxward.robustness.worst import best_attacks
from voxward.systems.run import RunSystem

SIZES = (8 / 255, 96 / 255)
PROTOCOL = Protocol(
    "small", attacks=("pgd-ce", "fgsm-ce", "fab-dice"), threat=Threat(SIZES), budget=Budget(2, 1, 1, 2),
    controls=("doubled",), seeds=(5, 6),
)  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return lesion_case(tmp_path_factory.mktemp("case"))


def worker_on(case, ids=("one",), protocol=PROTOCOL, **options) -> Worker:
    cases = [replace(case, id=name) for name in ids]
    return a_bench({"m": RunSystem(lesion_predictor())}, cases, protocol, dataset="the data", **options)


def test_it_is_the_attack_with_the_lowest_mean_of_the_written_files():
    def attacked(name, case, dice, file, eps=0.1, **others):
        return record(name, case, (dice,) * 2, eps, deployed=(file,) * 2, deployed_clean=(0.9, 0.7), **others)

    rows = [attacked("x", "a", 0.1, 0.5), attacked("x", "b", 0.1, 0.1), attacked("y", "a", 0.5, 0.2),
            attacked("y", "b", 0.5, 0.3), attacked("reach", "a", 0.0, 0.0, kind="control")]  # fmt: skip
    assert best_attacks(rows) == {"m": "y"}  # 0.25 against 0.3 of files
    assert best_attacks([*rows, attacked("y", "a", 0.9, 0.9, 0.2)]) == {"m": "x"}  # all sizes count
    assert best_attacks([attacked(name, "a", 0.5, 0.5) for name in "yx"]) == {"m": "x"}  # of equal ones the first name


def test_the_first_two_cases_are_attacked_with_the_first_seed_and_the_same_threshold(case):
    bench = worker_on(case, ("one", "two", "three")).bench
    rows = [clean(id, dice=(0.8, 0.6)) for id in bench.cases]
    rows += [record(name, id, (dice,) * 2, 0.1) for id in bench.cases for name, dice in (("pgd-ce", 0.2), ("x", 0.3))]
    units = [unit for unit in bench.last_units(rows) if unit.attack == "doubled"]
    assert [(unit.case, unit.eps, unit.seed) for unit in units] == [("one", None, 5), ("two", None, 5)]
    assert {unit.doubles for unit in units} == {"pgd-ce"}
    # Half of mu, as the attacks themselves had it.
    assert [unit.threshold for unit in units] == [pytest.approx(0.35)] * 2
    planned = [unit for unit in bench.last_units() if unit.attack == "doubled"]
    assert [unit.place for unit in planned] == [unit.place for unit in units]


@pytest.mark.parametrize("name", ["fgsm-ce", "fab-dice"])
def test_its_records_are_those_of_the_attack_with_twice_its_budget(case, name):
    """The same call with the larger budget in the protocol gives the same figures."""
    worker = worker_on(case)
    (unit,) = [one for one in worker.bench.last_units([record(name, "one", (0.2, 0.2), 0.1)]) if one.doubles]
    unit = replace(unit, threshold=0.4)
    found = worker.work(unit)
    assert [one.eps for one in found] == list(SIZES)
    twice = {"fgsm-ce": "ifgsm-ce", "fab-dice": "fab-dice"}[name]
    longer = replace(PROTOCOL, attacks=(twice,), budget=Budget(steps=2, fab_steps=4))
    other = worker_on(case, protocol=longer)
    units = [one for one in other.bench.units({"m": 0.4}) if one.attack == twice and one.seed == 5]
    expected = [one for unit in units for one in other.work(unit)]
    for one, same in zip(found, expected, strict=True):
        assert (one.attack, one.kind, one.options["doubles"]) == ("doubled", "control", name)
        assert one.options == {**same.options, "doubles": name}
        assert (one.dice(), one.dice(True), one.distance) == (same.dice(), same.dice(True), same.distance)
        assert (one.gradients, one.forwards) == (same.gradients, same.forwards)


def test_without_an_attack_there_is_nothing_to_run_again(case):
    worker = worker_on(case)
    (unit,) = [one for one in worker.bench.last_units() if one.attack == "doubled"]
    with pytest.raises(NotApplicable, match="no attack has run that could be run again"):
        worker.work(unit)


def test_a_surrogates_attack_is_run_again_as_well(two_organs):
    trials = plan_trials(Target(PROTOCOL, two_organs, transferred=True))
    assert trials["doubled"].trials["transfer"] == replace(trials["transfer"], steps=4)
    assert "doubled" not in plan_trials(Target(replace(PROTOCOL, controls=("noise",)), two_organs))


def test_its_cost_is_that_of_the_most_expensive_attack_at_every_size(two_organs):
    protocol = replace(PROTOCOL, attacks=("pgd-ce", "fgsm-ce", "square"))
    trials = plan_trials(Target(protocol, two_organs))
    gradients, _ = trials["pgd-ce"].cost(3)
    assert trials["doubled"].cost(3)[0] == 2 * gradients * len(SIZES)


def test_a_run_that_was_interrupted_goes_on(case, tmp_path):
    def run():
        protocol = replace(PROTOCOL, attacks=("fgsm-ce", "pgd-ce"), seeds=(0,), threat=Threat(SIZES[1:]))
        worker = worker_on(case, protocol=protocol, volumes=tmp_path / "volumes", segmentations=tmp_path / "segments")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return worker, measure(worker, tmp_path, InProcess(tmp_path))

    worker, records = run()
    again = [one for one in records if one.attack == "doubled"]
    assert {one.options["doubles"] for one in again} == {best_attacks(records)["m"]}
    (unit,) = [one for one in worker.bench.last_units(records) if one.attack == "doubled"]
    path = RecordStore(tmp_path).path(unit)
    kept = path.stat().st_mtime_ns
    others = {one: one.stat().st_mtime_ns for one in path.parents[3].rglob("*.json") if one != path}
    assert "doubled" not in {one.name for one in (tmp_path / "volumes").rglob("*")}
    path.unlink()
    _, once_more = run()
    assert path.stat().st_mtime_ns != kept
    assert {one: one.stat().st_mtime_ns for one in others} == others
    assert [replace(one, seconds=0.0) for one in once_more] == [replace(one, seconds=0.0) for one in records]
