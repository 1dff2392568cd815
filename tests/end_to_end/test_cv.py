"""Cross-validation: every case is scored by runs that have not seen it, in one resumable command."""

import json
import os
import signal
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.conftest import TINY
from voxward.commands.cv import cv
from voxward.core.alone import alone
from voxward.core.choices import Compute, Fold, Output
from voxward.core.interrupt import Interrupted
from voxward.core.plan import load_json
from voxward.data.formats import open_dataset
from voxward.metrics.policies import Scoring
from voxward.runs.folder import RunFolder, RunSplit
from voxward.systems.open import open_system

SETTINGS = (*TINY, "training.epochs=1", "postprocessing.kind=none")
OPTIONS = {"recipe": "dynunet", "fold": Fold(folds=2), "overrides": SETTINGS}


def test_every_case_is_scored_once_and_an_interrupted_call_goes_on(phantoms, tmp_path):
    out = tmp_path / "cv"

    def stop(stage, done, total, /, **figures):
        if stage == "train" and done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        cv(phantoms, out=Output(out, progress=stop), **OPTIONS)
    result = cv(phantoms, out=out, **OPTIONS)
    ids = sorted(case.id for case in open_dataset(phantoms).cases)
    assert sorted(case.id for case in result.cases) == ids
    validation = [load_json(RunSplit, RunFolder(out / f"fold-{n}" / "dynunet").splits).validation for n in range(2)]
    assert sorted((*validation[0], *validation[1])) == ids
    scored = {case.id: case for case in result.cases}
    own = json.loads((out / "fold-0" / "dynunet" / "metrics.json").read_text())["cases"]
    assert all(scored[case["id"]].mean("dice") == pytest.approx(_mean(case)) for case in own)
    assert members_of(out) == ["fold-0/dynunet", "fold-1/dynunet"]
    assert len(open_system(out).members) == 2
    written = {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")}
    cv(phantoms, out=out, **OPTIONS)
    assert written == {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")}
    with pytest.raises(ValueError, match="folds: 3, was 2"):
        cv(phantoms, out=out, **OPTIONS | {"fold": Fold(folds=3)})
    with pytest.raises(ValueError, match=r"scoring\.policy: one, was ignore"):
        cv(phantoms, out=out, scoring=Scoring("one"), **OPTIONS)


def members_of(folder):
    """The runs of the ensemble that a cross-validation leaves."""
    system = yaml.safe_load((folder / "system.yaml").read_text())
    assert (system["format"], system["kind"]) == (1, "ensemble")
    return system["members"]


def _mean(case):
    values = [scores["dice"] for scores in case["classes"].values() if scores["dice"] is not None]
    return sum(values) / len(values)


def test_a_second_call_on_one_folder_is_refused(phantoms, tmp_path):
    with alone(tmp_path / "cv", "a cross-validation"), pytest.raises(ValueError, match="another process works in"):
        cv(phantoms, out=tmp_path / "cv", **OPTIONS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": Fold(folds=1)}, "folds must be at least 2"),
        ({"keep": 2}, "keep must be 1 to 1"),
        ({"recipe": ["dynunet", "dynunet"]}, "different names"),
        ({"recipe": "dynamit"}, "unknown recipe"),
        ({"minutes": 0.0}, "minutes must be positive"),
        ({"overrides": (*SETTINGS, "training.precision=fp16")}, "fp16"),
        ({"overrides": (*SETTINGS, "loss.name=region-dice")}, "needs regions"),
        ({"overrides": (*SETTINGS, "optimizer.options.speed=3")}, "optimizer"),
        ({"overrides": (*SETTINGS, "postprocessing.classes={tumor: lesion}")}, "unknown class 'tumor'"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(phantoms, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        cv(phantoms, out=tmp_path / "cv", **OPTIONS | changes)
    assert not Path(tmp_path / "cv").exists()
    with pytest.raises(ValueError, match="dataset's own folder"):
        cv(phantoms, out=phantoms, **OPTIONS)
    assert not (phantoms / "cv.json").exists()


@pytest.mark.slow
def test_the_best_of_several_recipes_predict_each_fold(phantoms, tmp_path):
    result = cv(phantoms, out=tmp_path / "cv", **OPTIONS | {"recipe": ["dynunet", str(_other(tmp_path))], "keep": 1})
    assert len(result.cases) == 8
    members = members_of(tmp_path / "cv")
    assert [member.split("/")[0] for member in members] == ["fold-0", "fold-1"]


def _other(tmp_path):
    from voxward.core.recipe import dump_recipe, load_recipe

    path = tmp_path / "other.yaml"
    path.write_text(dump_recipe(load_recipe("dynunet", ["optimizer.options.lr=0.01"])))
    return path


@pytest.mark.slow
def test_a_unit_that_was_killed_between_its_files_is_finished(phantoms, tmp_path):
    """metrics.json alone, which is there before or after the others, does not say that a unit is finished."""
    cv(phantoms, out=tmp_path / "cv", **OPTIONS)
    unit = tmp_path / "cv" / "fold-1" / "dynunet"
    weights = (unit / "checkpoints" / "best.safetensors").stat().st_mtime_ns
    for name in ("metrics.md", "metrics.csv"):
        (unit / name).unlink()
    cv(phantoms, out=tmp_path / "cv", **OPTIONS)
    assert (unit / "metrics.csv").is_file()
    assert (unit / "metrics.md").is_file()
    assert (unit / "checkpoints" / "best.safetensors").stat().st_mtime_ns == weights


@pytest.mark.slow
@pytest.mark.parametrize("seen", [True, False])
def test_a_cluster_trains_the_same_runs(phantoms, tmp_path, monkeypatch, seen):
    """Also where its workers have a disk of their own, so that runs come back as files."""
    pytest.importorskip("distributed")
    if not seen:
        monkeypatch.setattr("voxward.engine.delivery.write_text", lambda path, text: path.write_text("another disk"))
    alone, together = cv(phantoms, out=tmp_path / "a", **OPTIONS), tmp_path / "b"
    found = cv(phantoms, out=together, compute=Compute(cluster="local:2"), **OPTIONS)
    assert [case.mean("dice") for case in found.cases] == [case.mean("dice") for case in alone.cases]
    weights = Path("fold-1") / "dynunet" / "checkpoints" / "best.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (together / weights).read_bytes()
    assert (together / "fold-1" / "dynunet" / "prepared").exists() == seen
