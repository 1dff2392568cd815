"""Segmentations made elsewhere are scored against a dataset's labels, and none that is missing goes unsaid."""

import json

import nibabel
import numpy as np
import pytest

import voxward
from voxward.cli import main
from voxward.core.choices import Cases, Reading
from voxward.core.errors import CasesFailed
from voxward.data.io import write_image
from voxward.metrics.policies import Scoring

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
IDS = ("a", "b", "c")


def truth(n):
    array = np.zeros((8, 8, 6), np.uint8)
    array[1:5, 1 + n : 4 + n, 1:4] = 2
    return array


def guess(n):
    array = truth(n)
    array[1] = 0
    return array


def dice(one, other):
    return 2 * np.logical_and(one == 2, other == 2).sum() / ((one == 2).sum() + (other == 2).sum())


@pytest.fixture
def places(tmp_path):
    """A dataset of nnU-Net's layout with a labelled test set, and a folder of segmentations."""
    for folder, ids in (("Tr", IDS), ("Ts", ("t",))):
        for n, id in enumerate(ids):
            write_image(tmp_path / f"data/images{folder}/{id}_0000.nii.gz", np.ones((8, 8, 6), np.int16), AFFINE)
            write_image(tmp_path / f"data/labels{folder}/{id}.nii.gz", truth(n), AFFINE)
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 2}, "file_ending": ".nii.gz"}
    (tmp_path / "data/dataset.json").write_text(json.dumps(description | {"numTraining": 3}))
    for n, id in enumerate(IDS):
        write_image(tmp_path / f"made/{id}.nii.gz", guess(n), AFFINE)
    return tmp_path / "data", tmp_path / "made"


def test_they_are_scored_as_they_lie(places, capsys):
    data, made = places
    result = voxward.evaluate_segmentations(made, data, scoring=Scoring("one"))
    assert [case.id for case in result.cases] == list(IDS)
    for n, case in enumerate(result.cases):
        assert case.classes["organ"].dice == pytest.approx(dice(guess(n), truth(n)))
    assert {path.name for path in made.iterdir()} >= {"metrics.json", "metrics.csv", "metrics.md"}
    assert main(["evaluate", "--segmentations", str(made), "--dataset", str(data), "--policy", "one"]) == 0
    assert "3 cases" in capsys.readouterr().out


def test_any_file_type_will_do(places):
    data, made = places
    (made / "b.nii.gz").unlink()
    write_image(made / "b.nrrd", guess(1), AFFINE)
    assert len(voxward.evaluate_segmentations(made, data).cases) == 3


def test_what_is_missing_or_wrong_is_a_failure_and_what_is_left_over_is_named(places, tmp_path, capsys):
    data, made = places
    (made / "a.nii.gz").rename(made / "stranger.nii.gz")
    write_image(made / "b.nii.gz", np.full((8, 8, 6), 7, np.uint8), AFFINE)
    with (
        pytest.warns(UserWarning, match=r"belong to no case of .*stranger\.nii\.gz"),
        pytest.raises(CasesFailed) as caught,
    ):
        voxward.evaluate_segmentations(made, data, out=tmp_path / "out")
    reasons = {failure.case: failure.reason for failure in caught.value.failures}
    assert set(reasons) == {"a", "b"}
    assert "is missing" in reasons["a"]
    assert "[7] are not declared" in reasons["b"]
    assert [case.id for case in caught.value.result.cases] == ["c"]
    assert "2 of 3 cases failed" in (tmp_path / "out" / "metrics.md").read_text()
    words = ["evaluate", "--segmentations", str(made), "--dataset", str(data), "--out", str(tmp_path / "out")]
    (made / "stranger.nii.gz").unlink()
    assert main(words) == 1
    assert "a.nii.gz is missing" in capsys.readouterr().err
    assert main([*words, "--fail-fast"]) == 2


@pytest.mark.parametrize("moved", ["shape", "place", "twice"])
def test_grids_must_agree(places, tmp_path, moved):
    data, made = places
    away = AFFINE + np.eye(4)[:, [3, 3, 3, 3]] * 0
    away[0, 3] = 3.0
    if moved == "twice":
        write_image(made / "b.nii", guess(1), AFFINE)
    else:
        array = guess(1)[:-1] if moved == "shape" else guess(1)
        nibabel.save(nibabel.Nifti1Image(array, AFFINE if moved == "shape" else away), made / "b.nii.gz")
    with pytest.raises(CasesFailed) as caught:
        voxward.evaluate_segmentations(made, data, out=tmp_path / "out")
    assert [failure.case for failure in caught.value.failures] == ["b"]
    if moved == "place":
        allowed = Reading(affine_tolerance=5.0)
        assert len(voxward.evaluate_segmentations(made, data, out=tmp_path / "out", reading=allowed).cases) == 3


def test_the_labelled_test_set(places):
    data, made = places
    write_image(made / "t.nii.gz", guess(0), AFFINE)
    with pytest.warns(UserWarning, match="not scored"):
        result = voxward.evaluate_segmentations(made, Cases(data, split="test"))
    assert [case.id for case in result.cases] == ["t"]


def test_the_dataset_is_never_written_to(places):
    data, _ = places
    before = sorted(path.name for path in data.rglob("*"))
    with pytest.raises(ValueError, match="own folder"):
        voxward.evaluate_segmentations(data / "labelsTr", data)
    assert sorted(path.name for path in data.rglob("*")) == before


def test_either_a_system_or_segmentations(places):
    data, made = map(str, places)
    assert main(["evaluate", "--dataset", data]) == 2
    assert main(["evaluate", "run", "--segmentations", made, "--dataset", data]) == 2
    assert main(["evaluate", "--segmentations", made, "--dataset", data, "--set", "tta=none"]) == 2
    with pytest.raises(FileNotFoundError, match="dataset must be given"):
        voxward.evaluate_segmentations(made, Cases())
