"""BraTS folders in both namings, and the brain phantoms, which are such a folder."""

import json

import numpy as np
import pytest

from voxward.core.labels import LabelSet
from voxward.data.check import check_dataset
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label, write_image, write_label
from voxward.phantoms.brain import make_brain_phantom
from voxward.phantoms.write import write_phantoms

OLD = ("_t1", "_t1ce", "_t2", "_flair", "_seg")
NEW = ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")
REGIONS = {"ET": (4,), "TC": (1, 4), "WT": (1, 2, 4)}


def _case(folder, endings, suffix=".nii.gz", label=True, values=(0, 1, 2, 4)):
    for n, ending in enumerate(endings[:4]):
        array = np.full((1, 4, 4, 4), n + 1, np.int16)
        array[0, 0] = 9
        write_image(folder / f"{folder.name}{ending}{suffix}", array, np.eye(4))
    if label:
        array = np.resize(np.array(values, np.uint8), (4, 4, 4))
        write_label(folder / f"{folder.name}{endings[4]}{suffix}", array, np.eye(4))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("endings", "enhancing"), [(OLD, 4), (NEW, 3)])
def test_both_namings_and_both_file_types(tmp_path, suffix, endings, enhancing):
    _case(tmp_path / "A_001", endings, suffix, values=(0, 1, 2, enhancing))
    _case(tmp_path / "A_002", endings, suffix, label=False)
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["A_001"]
    assert [case.id for case in dataset.unlabelled] == ["A_002"]
    image = read_image(dataset.cases[0].images)
    assert image.array[:, 1, 1, 1].tolist() == [1, 2, 3, 4]  # t1, t1ce, t2, flair, whatever they are called
    assert dataset.channels == ("t1", "t1ce", "t2", "flair")
    assert dataset.labels.values == (0, 1, 2, enhancing)
    assert [(r.name, set(r.values)) for r in dataset.labels.regions] == [
        ("ET", {enhancing}), ("TC", {1, enhancing}), ("WT", {1, 2, enhancing})
    ]  # fmt: skip
    assert check_dataset(dataset).ok


def test_grades_of_2018_and_the_label_that_is_called_otherwise(tmp_path):
    _case(tmp_path / "HGG" / "A", OLD)
    _case(tmp_path / "LGG" / "B", OLD, label=False)
    write_label(tmp_path / "LGG" / "B" / "W39_1998.09.19_Segm.nii", np.ones((4, 4, 4), np.uint8), np.eye(4))
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["A", "B"]


def test_a_missing_sequence_is_found_by_the_check_and_mixed_namings_are_refused(tmp_path):
    _case(tmp_path / "A", OLD)
    (tmp_path / "A" / "A_t2.nii.gz").unlink()
    (problem,) = check_dataset(open_dataset(tmp_path)).errors
    assert "A_t2.nii.gz" in problem.message
    _case(tmp_path / "B", NEW)
    with pytest.raises(ValueError, match="named as to 2021"):
        open_dataset(tmp_path)


def test_phantoms_are_nested_and_some_have_no_enhancing_tumour(tmp_path):
    write_phantoms(tmp_path / "data", 5, seed=1, kind="brain", size=32)
    dataset = open_dataset(tmp_path / "data")
    assert check_dataset(dataset).ok
    assert dataset.labels == LabelSet(("background", "NCR", "ED", "ET"), (0, 1, 2, 4)).with_regions(REGIONS)
    held = [set(np.unique(read_label(case.label).array).tolist()) for case in dataset.cases]
    assert held == [{0, 1, 2, 4}] * 4 + [{0, 1, 2}]
    with pytest.raises(FileExistsError):
        write_phantoms(tmp_path / "data", 1, kind="brain")


@pytest.mark.parametrize("seed", range(4))
def test_contrasts_are_those_of_the_sequences(seed):
    image, label = make_brain_phantom(seed, 48)
    t1, t1ce, t2, flair = image.array.astype(float)
    et, ncr, ed = (label.array == value for value in (4, 1, 2))
    brain = (image.array > 0).any(0) & (label.array == 0)
    assert t1ce[et].mean() > 1.4 * t1ce[ncr].mean()  # only the rim takes up contrast
    assert t1ce[et].mean() > 1.4 * t1ce[ed].mean()  # beside it: the coil sees the far side of the brain otherwise
    assert flair[ed].mean() > 1.3 * flair[brain].mean()
    assert t2[ncr].mean() > t2[brain].mean()
    assert t1[ncr].mean() < t1[brain].mean()
    assert (image.array[:, 0] == 0).all()  # skull-stripped
    again, _ = make_brain_phantom(seed, 48)
    assert (again.array == image.array).all()


def test_too_small_phantoms_are_refused():
    with pytest.raises(ValueError, match="size must be at least"):
        make_brain_phantom(0, 8)


TREATED = "BraTS-GLI-02195-100"


def test_cases_after_treatment_have_a_cavity_outside_of_the_tumour(tmp_path):
    _case(tmp_path / TREATED, NEW, values=(0, 1, 2, 3, 4))
    _case(tmp_path / "BraTS-GLI-00001-000", NEW, values=(0, 1, 2, 3))
    dataset = open_dataset(tmp_path)
    assert dataset.labels.names == ("background", "NETC", "SNFH", "ET", "RC")
    assert dataset.labels.values == (0, 1, 2, 3, 4)
    assert {r.name: set(r.values) for r in dataset.labels.regions} == {
        "ET": {3}, "TC": {1, 3}, "WT": {1, 2, 3}, "RC": {4}
    }  # fmt: skip
    assert dataset.labels.rewritten == {}
    # The content of all cases that _case makes is the same; that is another kind.
    assert {problem.kind for problem in check_dataset(dataset).errors} == {"duplicate"}


def test_an_undeclared_cavity_is_an_error_that_says_what_to_do(tmp_path):
    _case(tmp_path / "other-name", NEW, values=(0, 1, 2, 3, 4))
    (problem,) = check_dataset(open_dataset(tmp_path)).errors
    assert problem.kind == "label values"
    assert "[4]" in problem.message
    assert "labels.json" in problem.message
    declared = {"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}
    (tmp_path / "labels.json").write_text(json.dumps(declared))
    dataset = open_dataset(tmp_path)
    assert dict(zip(dataset.labels.names, dataset.labels.values, strict=True)) == declared
    assert check_dataset(dataset).ok


def test_labels_json_may_declare_regions(tmp_path):
    _case(tmp_path / "A", NEW, values=(0, 1, 2))
    labels = {"background": 0, "lesion": [1, 2], "core": [2], "regions_class_order": [1, 2]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    assert open_dataset(tmp_path).labels.scored == ("core", "lesion")


def test_values_of_pediatric_cases_are_told(tmp_path):
    _case(tmp_path / "BraTS-PED-00001-000", NEW, values=(0, 1, 2, 3))
    with pytest.warns(UserWarning, match=r"BraTS-PED-00001-000.*1 ET, 2 NET, 3 CC, 4 ED.*labels\.json"):
        open_dataset(tmp_path)
    (tmp_path / "labels.json").write_text('{"ET": 1, "NET": 2, "CC": 3, "ED": 4}')
    assert open_dataset(tmp_path).labels.names == ("background", "ET", "NET", "CC", "ED")


def test_two_files_that_may_be_the_label_are_refused(tmp_path):
    _case(tmp_path / "A", OLD, label=False)
    for name in ("x_Segm.nii", "y_Segm.nii.gz"):
        write_label(tmp_path / "A" / name, np.ones((4, 4, 4), np.uint8), np.eye(4))
    with pytest.raises(ValueError, match=r"x_Segm\.nii and y_Segm\.nii\.gz"):
        open_dataset(tmp_path)
