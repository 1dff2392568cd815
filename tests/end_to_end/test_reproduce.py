"""What a folder holds is done again to the last bit, and what has changed since is found."""

from __future__ import annotations

import json
import shutil

import pytest

import voxward
from tests.end_to_end.conftest import TINY
from voxward.cli import main
from voxward.core.choices import Change
from voxward.core.errors import UserError
from voxward.data.io import read_label, write_label
from voxward.runs.folder import RunFolder


@pytest.fixture(scope="module")
def predicted(trained, phantoms, tmp_path_factory):
    """Predictions of two volumes, and a copy of their dataset."""
    root = tmp_path_factory.mktemp("predicted")
    shutil.copytree(phantoms, root / "data")
    files = sorted((root / "data" / "imagesTr").iterdir())[:2]
    voxward.predict(trained, files, out=root / "out", device="cpu")
    return root


def test_predictions_are_the_same_and_other_inputs_are_refused(predicted, tmp_path):
    found = voxward.reproduce(predicted / "out", out=tmp_path / "again", device="cpu")
    assert found.exact
    assert found.met
    assert [one.count for one in found.compared] == [2]
    label = sorted((predicted / "out").glob("*.nii.gz"))[0]
    volume = read_label(label)
    write_label(label, 1 - (volume.array > 0).astype("uint8"), volume.affine)
    edited = voxward.reproduce(predicted / "out", out=tmp_path / "more", device="cpu")
    assert edited.compared[0].beyond == (label.name,)
    image = sorted((predicted / "data" / "imagesTr").iterdir())[0]
    shutil.copy(sorted((predicted / "data" / "imagesTr").iterdir())[3], image)
    with pytest.raises(UserError, match=r"1 of 2 cases are gone or have changed \(phantom_000\)"):
        voxward.reproduce(predicted / "out", out=tmp_path / "other", device="cpu")
    assert not (tmp_path / "other").exists()


def test_what_says_nothing_is_refused(tmp_path, phantoms):
    with pytest.raises(UserError, match="is no folder"):
        voxward.reproduce(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no provenance\.json"):
        voxward.reproduce(phantoms)


@pytest.mark.slow
def test_a_training_is_the_same_also_of_an_older_version(trained, tmp_path, phantoms):
    found = voxward.reproduce(trained, out=tmp_path / "again", device="cpu")
    assert found.exact
    assert found.same
    assert {one.what for one in found.compared} >= {"tensors of last.safetensors", "figures of the training log"}
    older = tmp_path / "older"
    shutil.copytree(trained, older)
    (older / "provenance.json").unlink()
    with pytest.warns(UserWarning, match="not known on which machine"):
        found = voxward.reproduce(older, out=tmp_path / "more", dataset=phantoms, device="cpu")
    assert not found.exact
    assert found.same
    with pytest.raises(UserError, match=r"dataset .* is not there"):
        voxward.reproduce(trained, out=tmp_path / "lost", dataset=tmp_path / "lost", device="cpu")


@pytest.mark.slow
def test_a_time_budget_is_followed_step_by_step(phantoms, tmp_path):
    without = [change for change in TINY if not change.startswith("training.epochs")]
    with pytest.warns(UserWarning, match="updates of the weights"):
        voxward.train(phantoms, out=tmp_path / "run", recipe="dynunet", overrides=without, minutes=0.04)
    state = RunFolder(tmp_path / "run").state
    found = voxward.reproduce(tmp_path / "run", device="cpu")
    assert found.out == tmp_path / "run-again"
    assert found.exact
    assert found.same
    state.unlink()
    with pytest.raises(UserError, match="trained with a time budget, and how its number"):
        voxward.reproduce(tmp_path / "run", out=tmp_path / "more", device="cpu")


@pytest.mark.slow
def test_a_tampered_record_and_a_changed_dataset_are_found(trained, phantoms, tmp_path, monkeypatch, capsys):
    shutil.copytree(phantoms, tmp_path / "data")
    quick = ["budget.steps=2", "cases=1", "attacks=[fgsm-ce]", "controls=[clip]"]
    monkeypatch.chdir(tmp_path)
    voxward.attack(trained, "data", out="attack", protocol="quick", overrides=quick, device="cpu")
    assert main(["reproduce", "attack", "--device", "cpu"]) == 0
    assert "the same to the last bit" in capsys.readouterr().out
    record = next((tmp_path / "attack" / "records").rglob("fgsm-ce/**/*.json"))
    held = json.loads(record.read_text())
    held.pop("checksum", None)
    held["records"][0]["adversarial"][0] = 0.123
    record.write_text(json.dumps(held))
    assert main(["reproduce", "attack", "--device", "cpu"]) == 1  # the new folder is there already
    label = next((tmp_path / "data" / "labelsTr").glob(f"{held['records'][0]['case']}.*"))
    volume = read_label(label)
    write_label(label, volume.array * 0, volume.affine)
    with pytest.raises(UserError, match="1 of 1 cases are gone or have changed"):
        voxward.reproduce("attack", out="other", device="cpu")


@pytest.mark.slow
def test_a_hardened_run_and_an_evaluation_are_the_same(trained, phantoms, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    voxward.evaluate(tmp_path / "run", phantoms)
    found = voxward.reproduce(tmp_path / "run", out=tmp_path / "scores", work="evaluate", device="cpu")
    assert found.exact
    assert found.same
    voxward.harden(trained, out=tmp_path / "hard", overrides=["training.epochs=1"], change=Change(dataset=phantoms))
    again = voxward.reproduce(tmp_path / "hard", out=tmp_path / "harder", device="cpu")
    assert again.exact
    assert again.same
