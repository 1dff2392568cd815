"""A suite from phantoms to tables in one resumable command, whose cells are ordinary runs and attacks."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
import yaml
from safetensors.torch import load_file, save_file

import voxward
from tests.end_to_end.conftest import TINY
from voxward.cli import main
from voxward.core.choices import Output
from voxward.core.files import sha256_of
from voxward.core.interrupt import Interrupted
from voxward.core.plan import load_json
from voxward.data.formats import open_dataset
from voxward.robustness.store import RecordStore
from voxward.runs.folder import RunFolder, RunSettings

PHANTOMS = {"kind": "organ", "cases": 6, "size": 24}
TRAINED = [*TINY, "postprocessing.kind=none"]
SUITE = {
    "format": 1,
    "name": "tiny",
    "tasks": {"mr": {"phantoms": PHANTOMS, "overrides": TRAINED}},
    "systems": {
        "plain": {"recipe": "dynunet", "attack_minutes": 60.0},
        "hard": {"harden": "plain", "method": "pgd"},
        "gone": {"path": "nowhere/{task}"},
    },
    "protocol": "rog-paper",
    "overrides": [
        "threat.eps=[8/255, 16/255]", "controls=[clean]", "cases=1",
        "attacks=[apgd-ce, {attack: pgd-ce, name: pgd-ce-2, options: {steps: 2}}]",
        "budget={steps: 2, restarts: 1, queries: 5, fab_steps: 1}",
    ],
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(SUITE, sort_keys=False))
    return path


@pytest.mark.slow
def test_a_suite_is_interrupted_goes_on_and_names_what_failed(file, tmp_path):
    out, stopped = tmp_path / "out", []

    def stop(stage, done, total, /, **figures):
        if stage == "train" and done == 1 and not stopped:
            stopped.append(stage)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        voxward.suite(file, out=Output(out, progress=stop))
    found = voxward.suite(file, out=out).source
    assert [one.case for one in found.failed] == ["mr, gone"]
    assert all("nowhere" in one.reason for one in found.failed)
    assert not found.missing
    assert [list(task.dice) for task in found.tasks] == [["plain", "hard"]]
    assert [task.attacked for task in found.tasks] == [("hard", "plain")]
    assert [task.cases for task in found.tasks] == [1]
    _check_cell(out / "tasks" / "mr" / "hard", out / "tasks" / "mr" / "data")
    assert "as Table 1 of the ROG paper" in (out / "report.html").read_text()
    # Finished work is not repeated, and the failed cells are tried again.
    before = {path: path.stat().st_mtime_ns for path in (out / "tasks").rglob("*") if path.is_file()}
    assert main(["suite", str(file), "--out", str(out)]) == 1
    assert {path: path.stat().st_mtime_ns for path in (out / "tasks").rglob("*") if path.is_file()} == before
    # Where the weights that a run was hardened from are others now, it is hardened again, and not refused.
    weights = RunFolder(out / "tasks" / "mr" / "plain").weights("auto")
    save_file({name: 1.01 * value for name, value in load_file(weights).items()}, weights)
    shutil.rmtree(out / "cells" / "mr" / "hard")
    again = voxward.suite(file, out=out).source
    assert [one.case for one in again.failed] == ["mr, gone"]
    hardened = load_json(RunSettings, RunFolder(out / "tasks" / "mr" / "hard").settings)
    assert hardened.start_weights == sha256_of(weights)


def _check_cell(cell, data):
    """A cell is what the ordinary commands take."""
    trained = {case.id for case in open_dataset(data).cases} - {one.id for one in voxward.evaluate(cell, data).cases}
    attacked = {record.case for record in RecordStore(cell / "attack").read_all()}
    assert len(attacked) == 1
    assert not attacked & trained
    assert not voxward.write_report([cell], out=cell / "page.html").problems


@pytest.mark.slow
def test_an_estimate_trains_for_its_pace_and_writes_nothing(file, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["suite", str(file), "--out", str(out), "--estimate", "--tasks", "mr", "--set", "systems.plain.minutes=30"]
    assert main(line) == 0
    assert not out.exists()
    told = capsys.readouterr().out
    assert "30.0" in told
    assert "not counted, because epochs decide" in " ".join(told.split())
    costs = voxward.suite(file, out=out, tasks=["mr"], estimate=True).costs
    # The hardened system is as fast as the one that it begins with, and a model that is not there is named.
    plain, hard, gone = costs.cells
    assert plain.attack.minutes == hard.attack.minutes > 0
    assert gone.attack is None
    assert costs.hours == pytest.approx((plain.attack.minutes + hard.attack.minutes) / 60)


def test_what_is_wrong_is_said_before_anything_is_written(file, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("VOXWARD_DATA", raising=False)
    out = tmp_path / "out"
    for words, said in (
        (["smal"], "small"),
        ([str(file), "--tasks", "mrr"], "mrr"),
        ([str(file), "--data", str(tmp_path / "none")], "is no folder"),
        ([str(file), "--set", "systems.plain.recipe=dynunett"], "dynunett"),
        (["decathlon", "--data", str(tmp_path)], "Task03_Liver"),
    ):
        assert main(["suite", *words, "--out", str(out)]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
