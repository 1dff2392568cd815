from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from voxward.commands.plan import plan
from voxward.commands.prepare import prepare
from voxward.core.errors import CasesFailed, UserError
from voxward.core.plan import load_plan
from voxward.data.store import open_case


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A Decathlon folder of six small cases."""
    root = tmp_path / "Task99_Test"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    rng, names = np.random.default_rng(0), [f"case_{n}.nii.gz" for n in range(6)]
    for name in names:
        label = np.zeros((20, 18, 16), np.uint8)
        label[4:14, 5:13, 5:12] = 1
        image = (rng.normal(-100, 5, label.shape) + 150 * label).astype(np.int16)
        for folder, array in (("imagesTr", image), ("labelsTr", label)):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0])), root / folder / name)
    description = {
        "name": "Test",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "organ"},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_plan_is_written_and_reads_back(dataset: Path, tmp_path: Path) -> None:
    decided = plan(dataset, out=tmp_path / "plan", overrides=["preparation.batch_size=3"])
    assert load_plan(tmp_path / "plan" / "plan.json") == decided
    assert decided.batch_size == 3
    assert decided.channels[0].normalization == "ct"
    measured = json.loads((tmp_path / "plan" / "fingerprint.json").read_text())
    assert 0 < len(measured["cases"]) < 6  # the fold's training cases only


def test_a_recipe_that_does_not_crop_is_planned_on_whole_volumes(dataset: Path, tmp_path: Path) -> None:
    for name in sorted(file for folder in ("imagesTr", "labelsTr") for file in (dataset / folder).iterdir()):
        image = nibabel.load(name)
        array = np.asarray(image.dataobj).copy()
        array[12:] = 0
        nibabel.save(nibabel.Nifti1Image(array, image.affine), name)
    for crop, length in ((True, 12), (False, 20)):
        plan(dataset, out=tmp_path, overrides=[f"preparation.crop_nonzero={str(crop).lower()}"])
        measured = json.loads((tmp_path / "fingerprint.json").read_text())
        assert {case["shape"][0] for case in measured["cases"]} == {length}


def test_planning_writes_nothing_unless_asked(dataset: Path) -> None:
    before = sorted(dataset.rglob("*"))
    assert plan(str(dataset), recipe="dynunet").window_size == plan(dataset, recipe="dynunet").patch_size
    assert sorted(dataset.rglob("*")) == before


def test_prepare_covers_all_cases_and_can_be_repeated(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "prepared"
    decided = prepare(dataset, out=out)
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert len(folders) == 6
    assert open_case(out / folders[0], folders[0]).classes == (1,)
    assert load_plan(out / "plan.json") == decided == prepare(dataset, out=str(out))


def test_an_edited_plan_is_followed(dataset: Path, tmp_path: Path) -> None:
    edited = replace(plan(dataset), spacing=(2.0, 1.0, 1.0))
    edited.save(tmp_path / "edited.json")
    assert prepare(dataset, out=tmp_path / "out", plan=tmp_path / "edited.json") == edited
    folder = next(path for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert open_case(folder, folder.name).shape == (10, 18, 16)
    with pytest.raises(ValueError, match="another plan"):
        prepare(dataset, out=tmp_path / "out")


def test_bad_arguments_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown recipe"):
        plan(dataset, recipe="nope")
    with pytest.raises((ValueError, FileNotFoundError)):
        plan(tmp_path / "nowhere")


@pytest.mark.data
def test_the_hippocampus_gets_the_published_patch(data_root: Path) -> None:
    decided = plan(data_root / "Task04_Hippocampus")
    assert decided.patch_size == decided.window_size == (32, 48, 32)
    assert decided.total_stride == (8, 8, 8)
    assert decided.spacing == pytest.approx((1.0, 1.0, 1.0))


def test_a_plan_for_other_labels_is_refused_before_anything_is_written(dataset: Path, tmp_path: Path) -> None:
    plan(dataset, out=tmp_path / "plan")
    description = json.loads((dataset / "dataset.json").read_text())
    description["labels"] = {"0": "background", "1": "organ", "2": "tumour"}
    (dataset / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"plan\.json was made for channels"):
        prepare(dataset, out=tmp_path / "prepared", plan=tmp_path / "plan" / "plan.json")
    assert not (tmp_path / "prepared").exists()


def test_a_given_plan_reads_nan_as_the_recipe_says(dataset: Path, tmp_path: Path) -> None:
    plan(dataset, out=tmp_path / "plan")
    path = sorted((dataset / "imagesTr").iterdir())[0]
    image = nibabel.load(path)
    array = np.asarray(image.dataobj, np.float32).copy()
    array[0] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)
    given = {"plan": tmp_path / "plan" / "plan.json"}
    decided = prepare(dataset, out=tmp_path / "prepared", overrides=["preparation.nan=zero"], **given)
    assert decided.nan == "zero"
    with pytest.raises(CasesFailed, match="NaN"):
        prepare(dataset, out=tmp_path / "other", **given)
