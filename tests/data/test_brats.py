"""BraTS folders in both namings, and the brain phantoms, which are such a folder."""

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
