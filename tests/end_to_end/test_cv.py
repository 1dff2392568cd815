"""Cross-validation: every case is scored by runs that have not seen it, in one resumable command."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import TINY
from voxward.commands.cv import cv
from voxward.core.claim import claim
from voxward.core.plan import load_json
from voxward.data.formats import open_dataset
from voxward.runs.folder import RunFolder, RunSplit
from voxward.training.interrupt import Interrupted

SETTINGS = (*TINY, "training.epochs=1", "postprocessing.kind=none")
OPTIONS = {"recipe": "dynunet", "folds": 2, "device": "cpu", "overrides": SETTINGS}


def test_every_case_is_scored_once_and_an_interrupted_call_goes_on(phantoms, tmp_path):
    out = tmp_path / "cv"

    def stop(stage, done, total, /, **figures):
        if stage == "train" and done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        cv(phantoms, out, **OPTIONS, progress=stop)
    result = cv(phantoms, out, **OPTIONS)
    ids = sorted(case.id for case in open_dataset(phantoms).cases)
    assert sorted(case.id for case in result.cases) == ids
    validation = [load_json(RunSplit, RunFolder(out / f"fold-{n}" / "dynunet").splits).validation for n in range(2)]
    assert sorted((*validation[0], *validation[1])) == ids
    scored = {case.id: case for case in result.cases}
    own = json.loads((out / "fold-0" / "dynunet" / "metrics.json").read_text())["cases"]
    assert all(scored[case["id"]].mean("dice") == pytest.approx(_mean(case)) for case in own)
    assert json.loads((out / "members.json").read_text()) == ["fold-0/dynunet", "fold-1/dynunet"]
    written = {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")}
    cv(phantoms, out, **OPTIONS)
    assert written == {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")}
    with pytest.raises(ValueError, match="folds: 3, was 2"):
        cv(phantoms, out, **OPTIONS | {"folds": 3})


def _mean(case):
    values = [scores["dice"] for scores in case["classes"].values() if scores["dice"] is not None]
    return sum(values) / len(values)


def test_what_others_work_on_is_waited_for(phantoms, tmp_path, monkeypatch):
    """A living claim on one fold: the other is trained meanwhile, and then the claimed one is looked at again."""
    module, out, pauses = sys.modules["voxward.commands.cv"], tmp_path / "cv", []
    held = claim(out / "claims" / "fold-0-dynunet")
    assert held.__enter__()

    def pause(seconds):
        pauses.append(sorted(path.parent.name for path in out.glob("fold-*/*")))
        held.__exit__(None, None, None)

    monkeypatch.setattr(module.time, "sleep", pause)
    cv(phantoms, out, **OPTIONS)
    assert pauses == [["fold-1"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "folds must be at least 2"),
        ({"keep": 2}, "keep must be 1 to 1"),
        ({"recipe": ["dynunet", "dynunet"]}, "different names"),
        ({"recipe": "dynamit"}, "unknown recipe"),
        ({"policy": "kind"}, "unknown policy"),
        ({"minutes": 0.0}, "minutes must be positive"),
        ({"overrides": (*SETTINGS, "training.precision=fp16")}, "fp16"),
        ({"overrides": (*SETTINGS, "loss.name=region-dice")}, "needs regions"),
        ({"overrides": (*SETTINGS, "optimizer.options.speed=3")}, "optimizer"),
        ({"overrides": (*SETTINGS, "postprocessing.classes={tumor: lesion}")}, "unknown class 'tumor'"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(phantoms, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        cv(phantoms, tmp_path / "cv", **OPTIONS | changes)
    assert not Path(tmp_path / "cv").exists()
    with pytest.raises(ValueError, match="dataset's own folder"):
        cv(phantoms, phantoms, **OPTIONS)
    assert not (phantoms / "cv.json").exists()


@pytest.mark.slow
def test_the_best_of_several_recipes_predict_each_fold(phantoms, tmp_path):
    result = cv(phantoms, tmp_path / "cv", **OPTIONS | {"recipe": ["dynunet", str(_other(tmp_path))], "keep": 1})
    assert len(result.cases) == 8
    members = json.loads((tmp_path / "cv" / "members.json").read_text())
    assert [member.split("/")[0] for member in members] == ["fold-0", "fold-1"]


def _other(tmp_path):
    from voxward.core.recipe import dump_recipe, load_recipe

    path = tmp_path / "other.yaml"
    path.write_text(dump_recipe(load_recipe("dynunet", ["optimizer.options.lr=0.01"])))
    return path
