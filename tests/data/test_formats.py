from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxward.data.formats import open_dataset
from voxward.data.io import write_image, write_label


def volume(path: Path, value: int = 1, channels: int = 1) -> None:
    array = np.full((channels, 3, 4, 5), value, np.int16)
    array[:, 0] = 0
    if "label" in path.parent.name:
        write_label(path, array[0], np.eye(4))
    else:
        write_image(path, array, np.eye(4))


def describe(root: Path, **changes: Any) -> Path:
    root.mkdir(exist_ok=True)
    description = {
        "name": "Heart",
        "modality": {"1": "T2", "0": "T1"},
        "labels": {"2": "scar", "0": "background", "1": "muscle"},
        "training": [{"image": "./imagesTr/b_1.nii.gz", "label": "./labelsTr/b_1.nii.gz"}],
        "test": ["./imagesTs/a_9.nii.gz", {"image": "./imagesTs/a_8.nii.gz"}],
    }
    (root / "dataset.json").write_text(json.dumps(description | changes))
    return root


NNUNET = {
    "modality": None,
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumour": 2},
    "file_ending": ".nii.gz",
    "training": [],
    "test": [],
}


def test_msd_lists_what_is_declared_whether_or_not_it_exists(tmp_path: Path) -> None:
    dataset = open_dataset(str(describe(tmp_path)))
    assert dataset.name == "Heart"
    assert dataset.channels == ("T1", "T2")
    assert (dataset.labels.names, dataset.labels.values) == (("background", "muscle", "scar"), (0, 1, 2))
    (case,) = dataset.cases
    assert case.id == "b_1"
    assert case.images == (tmp_path / "imagesTr/b_1.nii.gz",)
    assert case.label == tmp_path / "labelsTr/b_1.nii.gz"
    assert [(case.id, case.label) for case in dataset.unlabelled] == [("a_9", None), ("a_8", None)]
    assert dataset.splits_file is None


def test_own_splits_are_found(tmp_path: Path) -> None:
    describe(tmp_path)
    (tmp_path / "splits_final.json").write_text("[]")
    assert open_dataset(tmp_path).splits_file == tmp_path / "splits_final.json"
    (tmp_path / "splits.json").write_text("[]")
    assert open_dataset(tmp_path).splits_file == tmp_path / "splits.json"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"0": "background", "whole tumour": [1, 2]}}, "whole tumour"),
        ({"labels": {"1": "a", "2": "b"}}, "background"),
        ({"labels": {"background": 0, "a": 1, "ignore": 0}}, "must not have the value 0"),
        ({"labels": {"background": 0, "a": 1, "ignore": [2]}}, "needs one integer"),
        ({"labels": {"background": 0, "a": 1, "ignore": 1}}, "ignore label"),
        ({"labels": {"background": 0, "a": 1.5}}, "'a': 1.5"),
        ({"labels": None}, "labels"),
        ({"modality": {}}, "modality"),
        ({"training": [{"image": "x.nii"}]}, "no label"),
        ({"training": [{"label": "x.nii"}]}, "no image"),
        ({"training": "all"}, "must be a list"),
        ({"training": [{"image": "b_1.nii", "label": "x.nii"}] * 2}, "twice: b_1"),
    ],
)
def test_unusable_descriptions_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(describe(tmp_path, **changes))


def test_nnunet_declares_every_channel_of_every_case(tmp_path: Path) -> None:
    describe(tmp_path, **NNUNET | {"channel_names": {"0": "T1", "1": "T2"}})
    for name in ("la_003_0000", "la_001_0000", "la_001_0001", "._la_007_0000", "unnumbered"):
        volume(tmp_path / "imagesTr" / f"{name}.nii.gz")
    volume(tmp_path / "imagesTs" / "la_100_0000.nii.gz")
    with pytest.warns(UserWarning, match=r"imagesTr: 1 volumes are not named like CASE_0000.*unnumbered"):
        dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["la_001", "la_003"]
    assert dataset.cases[1].images == tuple(tmp_path / "imagesTr" / f"la_003_000{n}.nii.gz" for n in (0, 1))
    assert dataset.cases[1].label == tmp_path / "labelsTr/la_003.nii.gz"
    assert [(case.id, case.label) for case in dataset.unlabelled] == [("la_100", None)]
    assert dataset.labels.foreground == ("liver", "tumour")


def test_nnunet_may_list_its_files(tmp_path: Path) -> None:
    listed = {"x": {"images": ["../a/x0.nii.gz"], "label": "../a/xl.nii.gz"}}
    (case,) = open_dataset(describe(tmp_path / "d", **NNUNET, dataset=listed)).cases
    assert (case.id, case.label) == ("x", tmp_path / "d" / "../a/xl.nii.gz")
    with pytest.raises(ValueError, match='"dataset" must be'):
        open_dataset(describe(tmp_path / "d", **NNUNET, dataset={"x": {"images": []}}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "left": [1, 2], "right": [2, 3]}}, "must be nested"),
        ({"labels": {"background": 0, "whole": [1, "2"]}}, "integers"),
        ({"file_ending": ".bmp"}, r"\.bmp.*legal: \.nii\.gz"),
    ],
)
def test_nnunet_features_that_are_missing_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(describe(tmp_path, **NNUNET | changes))


def test_nnunet_lists_are_regions(tmp_path: Path) -> None:
    listed = {"background": 0, "whole": [1, 2], "core": [2]}
    labels = open_dataset(describe(tmp_path, **NNUNET | {"labels": listed})).labels
    assert (labels.names, labels.values) == (("background", "whole without core", "core"), (0, 1, 2))
    assert [(region.name, region.values) for region in labels.regions] == [("core", (2,)), ("whole", (1, 2))]


def test_plain_folders_take_labels_from_the_files(tmp_path: Path) -> None:
    for name, value in (("a_0001", 4), ("b_0002", 1)):
        volume(tmp_path / "images" / f"{name}.nii.gz", channels=2)
        volume(tmp_path / "labels" / f"{name}.nii", value)
    volume(tmp_path / "images" / "lonely.nrrd")
    (tmp_path / "labels" / "broken.nii").write_bytes(b"broken")
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["a_0001", "b_0002", "lonely"]
    assert dataset.cases[0].label == tmp_path / "labels/a_0001.nii"
    assert dataset.cases[2].label == tmp_path / "labels/lonely.nrrd"
    assert (dataset.labels.names, dataset.labels.values) == (("background", "class 1", "class 4"), (0, 1, 4))
    assert len(dataset.channels) == 2


def test_plain_folders_take_names_and_channel_files(tmp_path: Path) -> None:
    for n in range(2):
        volume(tmp_path / "images" / f"a_000{n}.nii.gz")
    volume(tmp_path / "labels" / "a.nii.gz", 3)
    (tmp_path / "labels.json").write_text('{"liver": 3}')
    (tmp_path / "channels.json").write_text('["CT", "PET"]')
    dataset = open_dataset(tmp_path)
    assert [(case.id, len(case.images)) for case in dataset.cases] == [("a", 2)]
    assert (dataset.labels.names, dataset.labels.values) == (("background", "liver"), (0, 3))
    assert dataset.channels == ("CT", "PET")


def test_plain_folders_without_content_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(ValueError, match="no volume"):
        open_dataset(tmp_path)
    volume(tmp_path / "images" / "a.nii")
    volume(tmp_path / "labels" / "a.nii", 0)
    with pytest.raises(ValueError, match="no class to learn"):
        open_dataset(tmp_path)


def test_other_folders_are_told_the_three_layouts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)Decathlon.*nnU-Net.*plain"):
        open_dataset(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        open_dataset(tmp_path)


@pytest.mark.data
def test_real_folders_open(data_root: Path) -> None:
    dataset = open_dataset(data_root / "Task04_Hippocampus")
    assert (len(dataset.cases), dataset.channels) == (234, ("MRI",))
    assert dataset.labels.foreground == ("Anterior", "Posterior")
    assert dataset.splits_file is not None
    assert len(open_dataset(data_root / "Task20_SoftTissueSarcoma").channels) == 3
