"""Names with accents, as macOS and as Linux write them."""

from __future__ import annotations

import json
import unicodedata
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest

from voxward.core.choices import Reading
from voxward.core.errors import UserError
from voxward.core.names import composed, on_disk
from voxward.data.check import check_dataset
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split
from voxward.systems.evaluate import evaluate_folder
from voxward.systems.merge import pairs_of
from voxward.systems.predict import collect_inputs

FORMS = ["NFC", "NFD"]
ID = "Müller_Zoé"


def named(form: str, name: str = ID) -> str:
    return unicodedata.normalize(form, name)


def save(path: Path, label: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Every file has other intensities: the same image twice would be a remark.
    intensities = np.random.default_rng(list(str(path).encode())).integers(0, 200, (5, 4, 3))
    array = np.arange(60).reshape(5, 4, 3) % 2 if label else intensities
    nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), np.eye(4)), path)
    return path


def test_a_file_is_found_in_either_form(tmp_path: Path) -> None:
    for form, other in product(FORMS, FORMS):
        path = save(tmp_path / f"{form}{other}" / named(form) / f"{named(form)}.nii")
        assert on_disk(tmp_path / f"{form}{other}" / named(other) / f"{named(other)}.nii") == path
    missing = tmp_path / named("NFC") / "x.nii"
    assert on_disk(missing) == missing
    assert named("NFC") != named("NFD")
    assert composed(named("NFD")) == named("NFC")


@pytest.mark.parametrize(("listed", "image", "label", "split"), list(product(FORMS, repeat=4)))
def test_msd(tmp_path: Path, listed: str, image: str, label: str, split: str) -> None:
    save(tmp_path / "imagesTr" / f"{named(image)}.nii.gz")
    save(tmp_path / "labelsTr" / f"{named(label)}.nii.gz", label=True)
    save(tmp_path / "imagesTr" / "b.nii.gz")
    save(tmp_path / "labelsTr" / "b.nii.gz", label=True)
    entries = [{"image": f"imagesTr/{id}.nii.gz", "label": f"labelsTr/{id}.nii.gz"} for id in (named(listed), "b")]
    description = {"name": "d", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a"}, "training": entries}
    (tmp_path / "dataset.json").write_text(json.dumps({**description, "numTraining": 2}))
    (tmp_path / "splits.json").write_text(json.dumps([{"train": ["b"], "val": [named(split)]}]))
    dataset = open_dataset(tmp_path)
    assert check_dataset(dataset).problems == ()
    assert dataset.case(named(split)).id == ID
    assert load_split(dataset).validation == (ID,)
    assert dataset.splits_file is not None


@pytest.mark.parametrize(("image", "label"), list(product(FORMS, repeat=2)))
def test_a_plain_folder(tmp_path: Path, image: str, label: str) -> None:
    save(tmp_path / "images" / f"{named(image)}.nii")
    save(tmp_path / "labels" / f"{named(label)}.nii", label=True)
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == [ID]
    assert check_dataset(dataset).problems == ()


@pytest.mark.parametrize(("first", "second", "label"), list(product(FORMS, repeat=3)))
def test_nnunet(tmp_path: Path, first: str, second: str, label: str) -> None:
    for folder, labels in (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")):
        save(tmp_path / folder / f"{named(first)}{folder}_0000.nii")
        save(tmp_path / folder / f"{named(second)}{folder}_0001.nii")
        save(tmp_path / labels / f"{named(label)}{folder}.nii", label=True)
    description = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii"}
    (tmp_path / "dataset.json").write_text(json.dumps({**description, "numTraining": 1}))
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == [f"{ID}imagesTr"]
    assert [case.id for case in dataset.test] == [f"{ID}imagesTs"]
    assert check_dataset(dataset).problems == ()


@pytest.mark.parametrize(("truth", "prediction"), list(product(FORMS, repeat=2)))
def test_predictions_are_found(tmp_path: Path, truth: str, prediction: str) -> None:
    save(tmp_path / "d" / "images" / f"{named(truth)}.nii")
    save(tmp_path / "d" / "labels" / f"{named(truth)}.nii", label=True)
    save(tmp_path / "p" / f"{named(prediction)}.nii", label=True)
    found = evaluate_folder(open_dataset(tmp_path / "d"), tmp_path / "p")
    assert found.foreground.mean == 1.0
    assert list(pairs_of(tmp_path / "d" / "labels", tmp_path / "p")) == [ID]


def test_channels_of_one_case_in_two_forms(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{named(form)}_000{n}.nii") for n, form in enumerate(FORMS)]
    (case,) = collect_inputs([tmp_path], ("T1", "T2"), Reading(channels=("T1", "T2")))
    assert (case.id, case.images) == (ID, tuple(files))


def test_two_files_of_one_name_are_not_one_case(tmp_path: Path) -> None:
    for form in FORMS:
        save(tmp_path / "images" / f"{named(form)}.nii")
    save(tmp_path / "labels" / f"{named('NFC')}.nii", label=True)
    with pytest.raises(UserError, match="mean one case"):
        open_dataset(tmp_path)
