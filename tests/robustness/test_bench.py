"""Units: small, picklable, each once; the worker opens a system once and keeps one case."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from tests.robustness.books import record
from tests.systems.test_cascade import predictor
from voxward.core.case import Case
from voxward.robustness.bench import Bench, Source, Worker
from voxward.robustness.protocol import load_protocol
from voxward.robustness.visibility import Visibility
from voxward.systems.run import RunSystem


@pytest.fixture
def bench(two_organs, tmp_path):
    protocol = load_protocol("quick", ["attacks=[apgd-ce, fab-dice]", "seeds=[0,1]", "cases=null"])
    cases = {id: Case(id, (tmp_path / f"{id}.nii.gz",), tmp_path / "label.nii.gz") for id in "xy"}
    return Bench({"m": Source("run")}, {"m": two_organs}, cases, protocol, "0", volumes=tmp_path / "volumes")


def test_units_are_small_and_each_is_there_once(bench):
    units = [*bench.first_units(), *bench.units({"m": 0.4}), *bench.last_units()]
    assert len({unit.place for unit in units}) == len(units)
    for unit in units:
        assert pickle.loads(pickle.dumps(unit)) == unit
        assert len(pickle.dumps(unit)) < 300
    assert pickle.loads(pickle.dumps(bench)) == bench
    by_name = {name: [unit for unit in units if unit.attack == name] for name in {unit.attack for unit in units}}
    assert {name: len(found) for name, found in by_name.items()} == {
        "clean": 2, "clip": 2, "noise": 4, "probe": 1, "reach": 1, "apgd-ce": 8, "fab-dice": 4,
        "gaussian": 4, "rician": 4,
    }  # fmt: skip
    assert {unit.threshold for unit in by_name["fab-dice"]} == {0.4}
    assert {unit.threshold for unit in by_name["clean"]} == {None}
    assert replace(units[0], threshold=0.4).place == units[0].place


def test_a_case_is_finished_before_the_next_one(bench):
    cases = [unit.case for unit in bench.units()]
    assert cases == sorted(cases)


@pytest.mark.parametrize(
    ("keep", "kept"), [("none", set()), ("first", {"x"}), ("worst", {"x", "y"}), ("all", {"x", "y"})]
)
def test_which_volumes_are_kept(bench, keep, kept):
    chosen = replace(bench, protocol=replace(bench.protocol, keep=keep))
    units = [unit for unit in chosen.units() if unit.attack == "apgd-ce"]
    paths = {unit.case: chosen.volume_path(unit) for unit in units}
    assert {case for case, path in paths.items() if path is not None} == kept
    kept_places = [path for unit in units if (path := chosen.volume_path(unit)) is not None]
    assert len(set(kept_places)) == len(kept_places)  # each seed has its own
    for case, path in paths.items():
        assert path is None or (path.name == f"{case}.nii.gz" and path.is_relative_to(bench.volumes))


def test_a_worker_opens_a_system_once(bench, monkeypatch):
    opened, system = [], RunSystem(predictor(60.0))
    monkeypatch.setattr(Source, "open", lambda self: opened.append(self.system) or system)
    worker = Worker(bench)
    assert worker.system("m") is worker.system("m") is system
    assert opened == ["run"]


def test_noise_is_as_strong_as_the_worst_attack_of_its_case_and_size(bench):
    def attacked(case, eps, dice, rms):
        return record("apgd-ce", case, (dice, dice), eps, clean=(0.9, 0.9), visibility=Visibility(rms, 30.0, None))

    small, large = bench.protocol.threat.eps
    records = [attacked("x", small, 0.5, 0.01), attacked("x", large, 0.2, 0.02), attacked("y", large, 0.1, 0.03)]
    units = [*bench.last_units(records)]
    assert {unit.attack for unit in units} == {"gaussian", "rician"}
    expected = {("x", small): 0.01, ("x", large): 0.02, ("y", small): None, ("y", large): 0.03}
    assert {(unit.case, unit.eps): unit.rms for unit in units} == expected
    # How strong it is follows from the attacks, and is no part of what the unit is.
    assert units[0].place == next(bench.last_units()).place
