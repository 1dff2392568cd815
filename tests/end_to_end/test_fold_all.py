"""A run that is trained on every case of its dataset."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.end_to_end.conftest import TINY
from voxward.cli import main
from voxward.commands.evaluate import evaluate
from voxward.commands.train import train
from voxward.core.choices import Fold, Reuse
from voxward.core.plan import load_json
from voxward.data.formats import open_dataset
from voxward.phantoms.write import write_phantoms
from voxward.runs.folder import RunFolder, RunSettings, RunSplit
from voxward.training.begin import fold_of


@pytest.fixture(scope="module")
def full(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("full") / "run"
    words = ["train", str(phantoms), "--out", str(out), "--recipe", "dynunet", "--fold", "all"]
    assert main([*words, *(word for entry in TINY for word in ("--set", entry))]) == 0
    return out


def test_every_case_trains_or_selects_and_none_is_held_out(phantoms, full):
    split = load_json(RunSplit, RunFolder(full).splits)
    assert sorted((*split.fit, *split.selection)) == sorted(case.id for case in open_dataset(phantoms).cases)
    assert split.selection
    assert split.validation == ()
    assert load_json(RunSettings, RunFolder(full).settings).fold == "all"


def test_no_case_of_its_own_dataset_is_scored(full):
    with pytest.raises(ValueError, match=r"trained on every case .*--fold all"):
        evaluate(full)


def test_another_dataset_is_scored(full, tmp_path):
    write_phantoms(tmp_path / "other", 2, size=24, seed=5)
    description = json.loads((tmp_path / "other/dataset.json").read_text())
    (tmp_path / "other/dataset.json").write_text(json.dumps({**description, "name": "Other"}))
    with pytest.warns(UserWarning, match="have the ids of cases that .* was trained on, and other images"):
        assert len(evaluate(full, tmp_path / "other", out=tmp_path / "out").cases) == 2


def test_a_run_that_begins_with_another_keeps_its_fold(phantoms, full, trained, tmp_path):
    with pytest.raises(ValueError, match="fold all contradicts the split"):
        train(
            phantoms,
            out=tmp_path / "run",
            recipe="dynunet",
            overrides=TINY,
            fold=Fold("all"),
            reuse=Reuse(start=trained),
        )
    assert not (tmp_path / "run").exists()
    assert fold_of(RunFolder(full), Fold(seed=4)) == Fold("all", seed=4)
    with pytest.raises(ValueError, match="fold 1 contradicts"):
        fold_of(RunFolder(full), Fold(1))


def test_a_run_of_a_former_version_has_a_number(trained, tmp_path):
    shutil.copy(RunFolder(trained).settings, tmp_path / "run.json")
    assert load_json(RunSettings, tmp_path / "run.json").fold == 0


def test_other_words_are_refused(phantoms, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", str(phantoms), "--out", str(tmp_path / "run"), "--fold", "most"])
    assert "must be the number of a fold, or all, got 'most'" in capsys.readouterr().err
