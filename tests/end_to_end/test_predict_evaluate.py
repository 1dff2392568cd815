"""From a trained run to files in the input's own geometry, and to metrics."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from voxward.cli import main
from voxward.commands.check import check
from voxward.commands.evaluate import evaluate
from voxward.commands.predict import collect_inputs, predict
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label, write_image


def test_predictions_have_the_geometry_of_their_input(phantoms, trained, tmp_path):
    case = open_dataset(phantoms).cases[0]
    (written,) = predict(trained, [case.images[0]], tmp_path)
    source, result = nib.load(case.images[0]), nib.load(written)
    assert result.shape == source.shape
    np.testing.assert_allclose(result.affine, source.affine, atol=1e-6)
    assert nib.aff2axcodes(result.affine) == nib.aff2axcodes(source.affine)
    assert np.issubdtype(result.get_data_dtype(), np.integer)
    assert set(np.unique(np.asarray(result.dataobj))) <= {0, 1, 2, 3}


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_other_file_types_come_back_as_they_went_in(phantoms, trained, tmp_path, suffix):
    volume = read_image(open_dataset(phantoms).cases[0].images)
    write_image(tmp_path / "in" / f"a{suffix}", volume.array, volume.affine)
    (written,) = predict(trained, tmp_path / "in", tmp_path / "out")
    assert written.name == f"a{suffix}"
    result = read_label(written)
    assert result.shape == volume.shape
    np.testing.assert_allclose(result.affine, volume.affine, atol=1e-4)


def test_dataset_folders_and_numbered_channels_are_collected(phantoms, tmp_path):
    assert len(collect_inputs([phantoms])) == len(open_dataset(phantoms).cases)
    volume = read_image(open_dataset(phantoms).cases[0].images)
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        write_image(tmp_path / f"{name}.nii.gz", volume.array, volume.affine)
    assert [(case.id, len(case.images)) for case in collect_inputs([tmp_path])] == [("a", 2), ("b", 2)]


def test_wrong_inputs_are_refused_before_anything_is_written(phantoms, trained, tmp_path):
    good = open_dataset(phantoms).cases[0].images[0]
    volume = read_image([good])
    two = tmp_path / "two.nii.gz"
    write_image(two, np.concatenate([volume.array] * 2), volume.affine)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(good.read_bytes()[:200])
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="two: the model takes 1 channels"):
        predict(trained, [good, two], out)
    with pytest.raises(ValueError, match="broken"):
        predict(trained, [good, broken], out)
    with pytest.raises(ValueError, match="same file"):
        predict(trained, [good, good], out)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        predict(trained, [tmp_path / "nowhere"], out)
    assert not out.exists()


def test_an_interrupted_prediction_can_be_resumed(phantoms, trained, tmp_path):
    case = open_dataset(phantoms).cases[0]
    (written,) = predict(trained, case.images[0], tmp_path)
    before = written.stat().st_mtime_ns
    predict(trained, case.images[0], tmp_path, resume=True)
    assert written.stat().st_mtime_ns == before
    predict(trained, case.images[0], tmp_path)
    assert written.stat().st_mtime_ns > before


def test_evaluate_scores_the_validation_cases_only(trained, tmp_path):
    split = json.loads((trained / "splits.json").read_text())
    result = evaluate(trained, out=tmp_path)
    assert {case.id for case in result.cases} == set(split["validation"])
    assert {p.name for p in (tmp_path / "predictions").iterdir()} == {f"{id}.nii.gz" for id in split["validation"]}
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored["foreground"]["mean"] == pytest.approx(result.foreground.mean)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 3 * len(split["validation"])


def test_evaluate_on_another_dataset_scores_all_of_it(phantoms, trained, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(phantoms, other)
    result = evaluate(trained, other, tmp_path / "out")
    assert len(result.cases) == len(open_dataset(other).cases)


class TestCommandLine:
    def test_check_passes_and_fails(self, phantoms, tmp_path, capsys):
        assert main(["check", str(phantoms)]) == 0
        assert "no problems" in capsys.readouterr().out
        damaged = tmp_path / "damaged"
        shutil.copytree(phantoms, damaged)
        next((damaged / "labelsTr").glob("*.nii.gz")).unlink()
        before = {p: p.stat().st_mtime_ns for p in damaged.rglob("*")}
        assert main(["check", str(damaged)]) == 1
        assert "1 errors" in capsys.readouterr().out
        assert {p: p.stat().st_mtime_ns for p in damaged.rglob("*")} == before
        assert not check(damaged).ok

    def test_predict_and_evaluate(self, phantoms, trained, tmp_path, capsys):
        image = str(open_dataset(phantoms).cases[0].images[0])
        assert main(["predict", str(trained), image, "--out", str(tmp_path / "p")]) == 0
        assert main(["evaluate", str(trained), "--out", str(tmp_path / "e"), "--policy", "one"]) == 0
        printed = capsys.readouterr().out
        assert "1 predictions" in printed
        assert "mean" in printed
        assert "organ a" in printed

    def test_plan_and_prepare(self, phantoms, tmp_path, capsys):
        assert main(["plan", str(phantoms), "--out", str(tmp_path), "--recipe", "dynunet"]) == 0
        plan = tmp_path / "plan.json"
        assert json.loads(capsys.readouterr().out) == json.loads(plan.read_text())
        assert main(["prepare", str(phantoms), "--plan", str(plan), "--out", str(tmp_path / "cases")]) == 0
        assert len([p for p in (tmp_path / "cases").iterdir() if p.is_dir()]) == 8

    def test_errors_are_one_sentence_and_exit_2(self, phantoms, tmp_path, capsys):
        assert main(["train", str(phantoms), "--out", str(tmp_path / "run"), "--recipe", "rogg"]) == 2
        assert "Did you mean 'rog'?" in capsys.readouterr().err
        assert main(["evaluate", str(tmp_path)]) == 2

    def test_help_lists_every_command(self, capsys):
        with pytest.raises(SystemExit):
            main(["--help"])
        printed = capsys.readouterr().out
        assert all(name in printed for name in ("check", "plan", "prepare", "train", "predict", "evaluate", "demo"))


def test_the_demo_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--minutes", "0.05", "--cases", "6"]) == 0
    pictures = list(out.glob("overlay-*.png"))
    assert len(pictures) == 1
    assert pictures[0].stat().st_size > 20_000
    assert "mean" in capsys.readouterr().out
    assert main(["demo", "--out", str(out), "--minutes", "0.05", "--cases", "6"]) == 0  # goes on where it stopped
