"""BIDS datasets with segmentations among the derivatives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import voxward
from voxward.data.formats import open_dataset
from voxward.data.io import write_image, write_label

RNG = np.random.default_rng(0)


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, RNG.normal(100, 20, (8, 9, 7)).astype(np.float32), np.eye(4))
    return path


def mask(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    label = np.zeros((8, 9, 7), np.uint8)
    label[2:5, 2:5, 2:5], label[5, 5, 5] = 1, 2
    write_label(path, label, np.eye(4))
    return path


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    root = tmp_path / "study"
    root.mkdir()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "study", "BIDSVersion": "1.10.0"}))
    expert = root / "derivatives" / "expert"
    for n in (1, 2, 3):
        image(root / f"sub-0{n}" / "anat" / f"sub-0{n}_T1w.nii.gz")
        mask(expert / f"sub-0{n}" / "anat" / f"sub-0{n}_desc-brain_mask.nii.gz")
        if n < 3:
            mask(expert / f"sub-0{n}" / "anat" / f"sub-0{n}_desc-manual_dseg.nii.gz")
    (expert / "dseg.tsv").write_text("index\tname\tcolor\n1\tcord\t#ff0000\n2\tlesion\t#00ff00\n")
    return root


def test_segmentations_are_found_with_their_images_and_names(bids: Path) -> None:
    dataset = open_dataset(bids)
    assert dataset.channels == ("T1w",)
    assert dataset.labels.names == ("background", "cord", "lesion")
    assert [case.id for case in dataset.cases] == ["sub-01", "sub-02"]
    assert dataset.cases[0].images == (bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz",)
    assert dataset.cases[0].label == bids / "derivatives/expert/sub-01/anat/sub-01_desc-manual_dseg.nii.gz"
    assert [case.id for case in dataset.unlabelled] == ["sub-03"]
    assert voxward.check(bids).ok


def test_sessions_runs_and_spaces_are_kept_apart(bids: Path) -> None:
    expert = bids / "derivatives" / "expert"
    for run in (1, 2):
        image(bids / "sub-04" / "ses-b" / "anat" / f"sub-04_ses-b_run-{run}_T1w.nii.gz")
    mask(expert / "sub-04" / "ses-b" / "anat" / "sub-04_ses-b_run-2_dseg.nii.gz")
    image(expert / "sub-05" / "anat" / "sub-05_space-MNI_desc-preproc_T1w.nii.gz")
    image(bids / "sub-05" / "anat" / "sub-05_T1w.nii.gz")
    mask(expert / "sub-05" / "anat" / "sub-05_space-MNI_dseg.nii.gz")
    dataset = open_dataset(bids)
    found = {case.id: case.images[0].name for case in dataset.cases}
    assert found["sub-04_ses-b_run-2"] == "sub-04_ses-b_run-2_T1w.nii.gz"
    assert found["sub-05"] == "sub-05_space-MNI_desc-preproc_T1w.nii.gz"
    assert [case.id for case in dataset.unlabelled] == ["sub-03", "sub-04_ses-b_run-1"]


def test_several_kinds_of_images_need_names(bids: Path) -> None:
    for n in (1, 2, 3):
        image(bids / f"sub-0{n}" / "anat" / f"sub-0{n}_FLAIR.nii.gz")
    with pytest.raises(ValueError, match=r"the channels are not clear.*FLAIR, T1w.*channels\.json"):
        open_dataset(bids)
    (bids / "channels.json").write_text('["T1w", "FLAIR"]')
    dataset = open_dataset(bids)
    assert [path.name for path in dataset.cases[1].images] == ["sub-02_T1w.nii.gz", "sub-02_FLAIR.nii.gz"]


def test_a_missing_channel_is_declared_so_that_check_names_it(bids: Path) -> None:
    (bids / "channels.json").write_text('["T1w", "T2w"]')
    report = voxward.check(bids)
    assert not report.ok
    assert any("sub-01_T2w.nii.gz" in problem.message for problem in report.problems)


def test_two_images_of_one_channel_are_refused(bids: Path) -> None:
    image(bids / "sub-01" / "anat" / "sub-01_acq-fast_T1w.nii.gz")
    assert open_dataset(bids).cases[0].images[0].name == "sub-01_T1w.nii.gz"  # it is named as the segmentation is
    (bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz").rename(bids / "sub-01" / "anat" / "sub-01_acq-slow_T1w.nii.gz")
    with pytest.raises(ValueError, match="may both be the T1w of"):
        open_dataset(bids)


def test_what_is_not_clear_is_refused(bids: Path, tmp_path: Path) -> None:
    table = bids / "derivatives" / "expert" / "dseg.tsv"
    table.write_text("index name\n1 cord\n")
    with pytest.raises(ValueError, match=r"dseg\.tsv must be a table with the columns index"):
        open_dataset(bids)
    table.unlink()
    with pytest.raises(ValueError, match="nothing says what the values"):
        open_dataset(bids)
    (bids / "labels.json").write_text('{"cord": 1, "lesion": 2}')
    assert open_dataset(bids).labels.names == ("background", "cord", "lesion")
    mask(bids / "derivatives" / "network" / "sub-01" / "anat" / "sub-01_dseg.nii.gz")
    with pytest.raises(ValueError, match=r"in several places.*expert.*network"):
        open_dataset(bids)
    empty = tmp_path / "empty"
    image(empty / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    (empty / "dataset_description.json").write_text("{}")
    with pytest.raises(ValueError, match="a BIDS folder without a segmentation"):
        open_dataset(empty)
