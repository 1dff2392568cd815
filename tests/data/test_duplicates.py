"""The same image under several names is found, and is an error where a split puts it on both sides."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from voxward.data.check import check_dataset
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split


@pytest.fixture
def site(tmp_path):
    """Six cases with noise of their own."""
    for n in range(6):
        rng = np.random.default_rng(n)
        write(tmp_path / "site", f"c{n}", rng.normal(100, 20, (8, 7, 6)).astype(np.float32))
    (tmp_path / "site/labels.json").write_text(json.dumps({"background": 0, "a": 1}))
    return tmp_path / "site"


def write(root, id, array, suffix=".nii.gz", label=True):
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "labels").mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), root / "images" / f"{id}{suffix}")
    if label:
        mask = np.zeros(array.shape, np.uint8)
        mask[2:4, 2:4, 2:4] = 1
        nib.save(nib.Nifti1Image(mask, np.eye(4)), root / "labels" / f"{id}{suffix}")


def voxels(root, id):
    return np.asanyarray(nib.load(root / "images" / f"{id}.nii.gz").dataobj)


def found(root):
    return [problem for problem in check_dataset(open_dataset(root)).problems if problem.kind == "duplicate"]


def test_different_images_are_no_duplicates(site):
    assert found(site) == []


@pytest.mark.parametrize(("suffix", "kind"), [(".nii", np.float32), (".nii.gz", np.float64)])
def test_a_copy_under_another_name_and_in_another_file_is_found(site, suffix, kind):
    write(site, "another", voxels(site, "c1").astype(kind), suffix)
    (problem,) = found(site)
    folds = [load_split(open_dataset(site), fold) for fold in range(5)]
    split = any(("c1" in fold.train) and ("another" in fold.validation) for fold in folds)
    assert problem.severity == ("error" if split else "warning")
    assert "another and c1 show the same image" in problem.message


@pytest.mark.parametrize(("parted", "severity"), [(True, "error"), (False, "warning")])
def test_the_split_decides_how_bad_it_is(site, parted, severity):
    write(site, "c6", voxels(site, "c0"))
    validation = ["c6"] if parted else ["c0", "c6"]
    train = [f"c{n}" for n in range(7) if f"c{n}" not in validation]
    (site / "splits.json").write_text(json.dumps([{"train": train, "val": validation}]))
    (problem,) = found(site)
    assert problem.severity == severity
    assert ("fold 0 trains on c0 and validates on c6" in problem.message) == parted


def test_three_equal_images_are_one_problem(site):
    for name in ("x", "y"):
        write(site, name, voxels(site, "c2"))
    (problem,) = found(site)
    assert "c2 and x and y" in problem.message


def test_a_label_says_nothing_about_the_image(site):
    shutil.copy(site / "labels/c0.nii.gz", site / "labels/c1.nii.gz")
    assert found(site) == []


def test_blank_images_are_not_taken_for_each_other(site):
    for name in ("blank", "blanker"):
        write(site, name, np.zeros((8, 7, 6), np.float32))
    assert found(site) == []
