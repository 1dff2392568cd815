"""Images are found where they are, or the reader is told why they are not shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.html.folders import AFFINE, attacked
from voxward.data.io import write_image
from voxward.report.html.kept import NotShown, read_kept


def kept(folder, data=None):
    return read_kept(folder.source().folder, data)


def test_a_case_is_found(tmp_path):
    folder = attacked(tmp_path).add("a")
    assert kept(folder).case("a").images == (Path(folder.cases["a"]["images"][0]),)


def test_paths_may_be_relative_to_the_folder(tmp_path):
    folder = attacked(tmp_path).add("a")
    folder.cases["a"] = {"images": ["../data/a-image.nii.gz"], "label": "../data/a-label.nii.gz", "order": None}
    assert kept(folder).case("a").images[0].is_file()


def test_a_folder_of_an_earlier_version_says_so(tmp_path):
    folder = attacked(tmp_path).add("a")
    folder.source()
    (folder.folder / "cases.json").unlink()
    with pytest.raises(NotShown, match="earlier version"):
        read_kept(folder.folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99}', '{"format": 1, "cases": {}}'])
def test_a_damaged_file_is_a_sentence(tmp_path, content):
    (tmp_path / "cases.json").write_text(content)
    with pytest.raises(NotShown, match=r"cases\.json cannot be read"):
        read_kept(tmp_path)


def test_changed_images_are_not_shown(tmp_path):
    folder = attacked(tmp_path).add("a")
    write_image(Path(folder.cases["a"]["images"][0]), np.ones((6, 7, 8), np.int16), AFFINE)
    with pytest.raises(NotShown, match="not the one that was attacked"):
        kept(folder).case("a")


def test_moved_images_are_found_by_the_dataset(tmp_path):
    folder = attacked(tmp_path).add("a")
    image, label = (Path(folder.cases["a"][name][0] if name == "images" else folder.cases["a"][name])
                    for name in ("images", "label"))  # fmt: skip
    moved = tmp_path / "moved"
    for old, kind in ((image, "imagesTr"), (label, "labelsTr")):
        (moved / kind).mkdir(parents=True)
        old.rename(moved / kind / "a.nii.gz")
    dataset = {
        "name": "d", "channel_names": {"0": "T1"}, "modality": {"0": "T1"}, "tensorImageSize": "3D",
        "labels": {"0": "background", "5": "head", "9": "tail"}, "numTraining": 1, "numTest": 0, "test": [],
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }  # fmt: skip
    (moved / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(NotShown, match="--data"):
        kept(folder).case("a")
    assert kept(folder, moved).case("a").images == (moved / "imagesTr" / "a.nii.gz",)


def test_a_name_that_begins_like_another_is_another(tmp_path):
    folder = attacked(tmp_path).add("scan.1").add("scan")
    source = folder.source()
    found = {r.case: r for r in source.records if r.kind == "attack"}
    known = read_kept(source.folder)
    assert {case: known.volume(r, (0,)).name for case, r in found.items()} == {
        "scan": "scan.nii.gz", "scan.1": "scan.1.nii.gz",
    }  # fmt: skip
    known.volume(found["scan"], (0,)).unlink()
    assert known.volume(found["scan"], (0,)) is None


def test_names_with_brackets_are_names(tmp_path):
    folder = attacked(tmp_path).add("a[1]")
    source = folder.source()
    (found,) = (r for r in source.records if r.kind == "attack")
    assert read_kept(source.folder).volume(found, (0,)).name == "a[1].nii.gz"


@pytest.mark.parametrize("case", ["../../../away", "..", "a/../../../../away"])
def test_a_record_of_a_stranger_has_no_other_volume_shown(tmp_path, case):
    folder = attacked(tmp_path).add("a")
    source = folder.source()
    record = next(r for r in source.records if r.kind == "attack")
    for kind in ("volumes", "segmentations"):
        place = read_kept(source.folder)._folder(kind, record, ())
        place.mkdir(parents=True, exist_ok=True)
        away = (place / f"{case}.nii.gz").resolve()
        write_image(away, np.ones((6, 7, 8), np.int16), AFFINE)
    stranger = replace(record, case=case)
    assert read_kept(source.folder).volume(stranger, ()) is None
    assert read_kept(source.folder).mask(stranger, ()) is None
