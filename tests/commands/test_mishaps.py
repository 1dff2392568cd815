"""Everyday slips on the way from a folder to a score, and the sentence that each of them is told."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxward import check, write_phantoms
from voxward.cli import main
from voxward.commands.predict import _scores
from voxward.report.seen import seen_notes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_phantoms(tmp_path / "data", cases=2, size=16)
    return tmp_path / "data"


def plain(data: Path) -> Path:
    """The dataset as plain folders."""
    for role in ("images", "labels"):
        shutil.move(data / f"{role}Tr", data / role)
    (data / "dataset.json").unlink()
    return data


def test_a_file_in_place_of_the_folder(data):
    with pytest.raises(FileNotFoundError, match=f"give its folder, {data}"):
        check(data / "dataset.json")


def test_a_folder_inside_the_dataset(data):
    with pytest.raises(ValueError, match=f"a folder inside the dataset {data}"):
        check(data / "imagesTr")


def test_a_run_in_place_of_the_dataset(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("format: 1\n")
    with pytest.raises(ValueError, match="It is the folder of a run"):
        check(tmp_path / "run")


def test_a_run_beside_segmentations(tmp_path, data, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("format: 1\n")
    command = [
        "evaluate",
        str(tmp_path / "run"),
        "--segmentations",
        str(data / "labelsTr"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(command) == 2
    assert "and no system" in " ".join(capsys.readouterr().err.split())


def test_two_files_of_one_case_are_no_two_channels(data):
    root = plain(data)
    first = min((root / "images").iterdir())
    nib.save(nib.load(first), root / "images" / first.name.removesuffix(".gz"))
    assert {problem.kind for problem in check(root).errors} == {"shadow"}


def test_infinite_voxels_are_counted_of_all(data):
    path = min((data / "imagesTr").iterdir())
    image = nib.load(path)
    array = np.asarray(image.dataobj, np.float32)
    array[0, 0, 0] = np.inf
    nib.save(nib.Nifti1Image(array, image.affine), path)
    (error,) = check(data).errors
    assert f"1 of {array.size} voxels are infinite: mend the file" in error.message


def test_a_plan_of_other_classes_is_refused_in_words(data, tmp_path, capsys):
    assert main(["plan", str(data), "--out", str(tmp_path / "plan")]) == 0
    text = json.loads((data / "dataset.json").read_text())
    text["labels"]["1"] = "kidney"
    (data / "dataset.json").write_text(json.dumps(text))
    command = ["train", str(data), "--plan", str(tmp_path / "plan" / "plan.json"), "--out", str(tmp_path / "run")]
    assert main(command) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "organ a = 1" in told
    assert "kidney = 1" in told
    assert "LabelSet" not in told


def test_seen_cases_are_told_to_be_too_good():
    (note,) = seen_notes(["a", "b"], ["a"], [])
    assert note == "1 of 2 cases were seen in training, so that these scores are better than for new cases: a"


def test_more_channels_than_declared_are_refused_by_the_plan(data, tmp_path, capsys):
    path = min((data / "imagesTr").iterdir())
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 2, axis=-1), image.affine), path)
    assert main(["plan", str(data), "--fold", "all", "--out", str(tmp_path / "plan")]) in (1, 2)
    told = capsys.readouterr().err
    assert "2 channels, but the dataset declares 1" in " ".join(told.split())
    assert path.name in told
    assert "Traceback" not in told


def test_probabilities_of_an_earlier_prediction_are_named(tmp_path):
    (tmp_path / "probabilities").mkdir()
    with pytest.warns(UserWarning, match="is of an earlier prediction .*--save-probabilities"):
        assert _scores(tmp_path, wanted=False, overwrite=False) is None
