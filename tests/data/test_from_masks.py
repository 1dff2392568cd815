"""Folders with one mask file for each class become datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import voxward
from voxward.cli import main
from voxward.core.errors import CasesFailed
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label, write_image, write_label

AFFINE = np.diag([1.5, 1.5, 3.0, 1.0])
SHAPE = (10, 11, 8)


def case(root: Path, name: str, masks: dict[str, tuple[slice, ...]], affine: np.ndarray = AFFINE) -> Path:
    folder = root / name
    (folder / "segmentations").mkdir(parents=True)
    values = np.random.default_rng(int(name[1:])).integers(-500, 900, SHAPE).astype(np.int16)
    write_image(folder / "ct.nii.gz", values, AFFINE)
    for mask, where in masks.items():
        drawn = np.zeros(SHAPE, np.uint8)
        drawn[where] = 1
        write_label(folder / "segmentations" / f"{mask}.nii.gz", drawn, affine)
    return folder


LIVER, SPLEEN = np.s_[1:4, 1:5, 2:5], np.s_[6:9, 2:5, 1:4]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    root = tmp_path / "cases"
    case(root, "s0001", {"spleen": SPLEEN, "liver": LIVER})
    case(root, "s0002", {"liver": LIVER})
    case(root, "s0003", {})
    (root / "meta.csv").write_text("image_id;age\n")
    return root


def test_masks_become_one_label_and_images_keep_their_values(folders: Path, tmp_path: Path) -> None:
    found = voxward.from_masks(folders, out=tmp_path / "out")
    assert (found.labelled, found.unlabelled) == (("s0001", "s0002"), ("s0003",))
    dataset = open_dataset(tmp_path / "out")
    assert dataset.channels == ("CT",)
    assert dataset.labels.names == ("background", "liver", "spleen")
    wanted = np.zeros(SHAPE, int)
    wanted[LIVER], wanted[SPLEEN] = 1, 2
    label = read_label(tmp_path / "out" / "labelsTr" / "s0001.nii.gz")
    np.testing.assert_array_equal(label.array, wanted)
    image = read_image([tmp_path / "out" / "imagesTr" / "s0001_0000.nii.gz"])
    source = read_image([folders / "s0001" / "ct.nii.gz"])
    np.testing.assert_array_equal(image.array, source.array)
    np.testing.assert_allclose(image.affine, source.affine)
    assert voxward.check(tmp_path / "out").ok


def test_classes_are_chosen_and_may_then_overlap(folders: Path, tmp_path: Path) -> None:
    case(folders, "s0004", {"liver": LIVER, "liver_tumour": np.s_[2:3, 2:4, 3:4]})
    with pytest.raises(CasesFailed, match=r"s0004: 'liver' and 'liver_tumour' share 2 voxels.*--classes"):
        voxward.from_masks(folders, out=tmp_path / "none")
    voxward.from_masks(folders, out=tmp_path / "out", classes=["liver", "liver_tumour"])
    label = read_label(tmp_path / "out" / "labelsTr" / "s0004.nii.gz").array
    assert (np.count_nonzero(label == 1), np.count_nonzero(label == 2)) == (34, 2)
    assert not np.any(read_label(tmp_path / "out" / "labelsTr" / "s0001.nii.gz").array == 2)


def test_a_bad_case_costs_no_other(folders: Path, tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 30
    case(folders, "s0005", {"liver": LIVER}, moved)
    odd = np.zeros(SHAPE, np.uint8)
    odd[1], odd[2] = 1, 2
    write_label(folders / "s0002" / "segmentations" / "liver.nii.gz", odd, AFFINE)
    with pytest.raises(CasesFailed) as caught:
        voxward.from_masks(folders, out=tmp_path / "out")
    messages = {failure.case: str(failure) for failure in caught.value.failures}
    assert set(messages) == {"s0002", "s0005"}
    assert "must hold 0 and one other value" in messages["s0002"]
    assert "liver.nii.gz" in messages["s0005"]
    assert [path.name for path in (tmp_path / "out" / "labelsTr").glob("*.gz")] == ["s0001.nii.gz"]


def test_what_is_not_clear_is_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no case has a mask 'kidney'"):
        voxward.from_masks(folders, out=tmp_path / "out", classes=["kidney"])
    with pytest.raises(ValueError, match="holds no folder of a case"):
        voxward.from_masks(folders / "s0001", out=tmp_path / "out")
    write_image(folders / "s0001" / "mr.nii.gz", np.zeros(SHAPE, np.int16), AFFINE)
    with pytest.raises(ValueError, match="name the images that are channels with --channels"):
        voxward.from_masks(folders, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert voxward.from_masks(folders, out=tmp_path / "out", channels=["CT"]).labelled == ("s0001", "s0002")
    (folders / "s0001" / "others").mkdir()
    write_label(folders / "s0001" / "others" / "a.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    with pytest.raises(ValueError, match="several folders of volumes"):
        voxward.from_masks(folders, out=tmp_path / "other", channels=["CT"])


def test_the_command_line(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["from-masks", str(folders), "--out", str(tmp_path / "out"), "--classes", "liver"]) == 0
    assert "2 labelled, 1 without ground truth; classes: liver" in capsys.readouterr().out
