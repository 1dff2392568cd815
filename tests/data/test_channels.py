"""Where a dataset meets a model: its cases are read in the model's order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from voxward.core.case import Case, Dataset
from voxward.core.labels import LabelSet
from voxward.data.channels import files_in_order_of, in_order_of, names_beside
from voxward.data.io import read_case, write_image
from voxward.data.nan import dataset_reading_nan
from voxward.data.places import dataset_within

ORDER = r"its channels T1, T2, CT are put into the model's order CT, T1, T2"


def volume(path: Path, values=(1, 2, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.stack([np.full((3, 3, 2), value, np.int16) for value in values]), np.eye(4))
    return path


def dataset(root: Path, *cases: Case, channels=("T1", "T2", "CT")) -> Dataset:
    return Dataset("d", root, channels, LabelSet(("background", "a"), (0, 1)), cases)


def values(case: Case) -> list[int]:
    return [int(channel.flat[0]) for channel in read_case(case).array]


@pytest.mark.parametrize("apart", [False, True])
def test_one_file_and_files_per_channel_are_read_in_order(tmp_path, apart):
    files = (
        [volume(tmp_path / f"a_000{n}.nii.gz", (n + 1,)) for n in range(3)] if apart else [volume(tmp_path / "a.nii")]
    )
    source = dataset(tmp_path, Case("a", tuple(files)))
    with pytest.warns(UserWarning, match=ORDER):
        ordered = in_order_of(source, ("ct", "t1", "t2"))
    assert values(ordered.cases[0]) == [3, 1, 2]
    assert ordered.channels == ("ct", "t1", "t2")
    with pytest.warns(UserWarning, match="of its channels T1, T2, CT the model takes T2, by their names"):
        assert values(in_order_of(source, ("T2w",)).cases[0]) == [2]
    assert values(in_order_of(ordered, ("ct", "t1", "t2")).cases[0]) == [3, 1, 2]
    with pytest.warns(UserWarning, match="put into"):
        assert values(in_order_of(ordered, ("T1", "T2", "CT")).cases[0]) == [1, 2, 3]


def test_every_part_of_a_dataset_is_ordered(tmp_path):
    one = Case("a", (volume(tmp_path / "a.nii"),))
    labels = LabelSet(("background", "a"), (0, 1))
    source = Dataset("d", tmp_path, ("T1", "T2", "CT"), labels, (one,), (one,), test=(one,), unused=(one,))
    with pytest.warns(UserWarning, match=ORDER):
        assert [values(case) for case in in_order_of(source, ("CT", "T1", "T2")).every] == [[3, 1, 2]] * 4


def test_every_part_of_a_dataset_is_read_as_the_user_says(tmp_path):
    one, labels = Case("a", (tmp_path / "a.nii",)), LabelSet(("background", "a"), (0, 1))
    source = Dataset("d", tmp_path, ("CT",), labels, (one,), (one,), test=(one,), unused=(one,))
    said = dataset_within(dataset_reading_nan(source, "zero"), 0.5).every
    assert [(case.nan_as_zero, case.affine_tolerance) for case in said] == [(True, 0.5)] * 4


def test_what_the_user_says_replaces_the_datasets_names(tmp_path):
    source = dataset(tmp_path, Case("a", (volume(tmp_path / "a.nii"),)))
    with pytest.warns(UserWarning, match="CT, T1, T2 are put into the model's order T1, T2, CT"):
        assert values(in_order_of(source, ("T1", "T2", "CT"), ("CT", "T1", "T2")).cases[0]) == [2, 3, 1]
    with pytest.raises(ValueError, match=r"names 2 channels, T1, T2, but .* has 3: T1, T2, CT"):
        in_order_of(source, ("T1", "T2"), ("T1", "T2"))


def test_a_case_with_another_number_of_channels_is_refused(tmp_path):
    source = dataset(tmp_path, Case("b", (volume(tmp_path / "b.nii", (1, 2, 3, 4)),)))
    with pytest.warns(UserWarning, match=ORDER):
        case = in_order_of(source, ("CT", "T1", "T2")).cases[0]
    with pytest.raises(ValueError, match=r"'b': its files have 4 channels, but 3 are named"):
        read_case(case)
    with pytest.raises(ValueError, match=r"names 3 channels, T1, T2, CT, but b has 4"):
        files_in_order_of(source.cases, ("T1",), "files", ("T1", "T2", "CT"), forced=True)


def test_the_dataset_around_a_folder_of_images_names_its_channels(tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        volume(tmp_path / folder / "a.nii")
    assert names_beside(tmp_path / "imagesTr") == ()
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1", "1": "CT"}}))
    assert names_beside(tmp_path / "imagesTr") == ("T1", "CT")
    assert names_beside(tmp_path / "labelsTr") == ()
    (tmp_path / "dataset.json").write_text("no JSON")
    assert names_beside(tmp_path / "imagesTr") == ()
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "channels.json").write_text('["PET", "CT"]')
    assert names_beside(tmp_path / "imagesTr") == ("PET", "CT")
