"""Files outside of a dataset's folder are read only where the user says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import voxward
from tests.data.test_formats import NNUNET, describe
from voxward.core.case import Dataset
from voxward.core.errors import UserError
from voxward.data.formats import open_dataset
from voxward.data.io import write_image, write_label

CASES = ("a", "b", "c")


def decathlon(root: Path) -> None:
    entry = {case: {"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in CASES}
    describe(root, modality={"0": "T1"}, training=list(entry.values()), test=[])


def nnunet(root: Path) -> None:
    describe(root, **NNUNET)


def listed(root: Path) -> None:
    entry = {c: {"images": [f"imagesTr/{c}_0000.nii.gz"], "label": f"labelsTr/{c}.nii.gz"} for c in CASES}
    describe(root, **NNUNET, dataset=entry)


def plain(root: Path) -> None:
    root.mkdir()


def brats(root: Path) -> None:
    root.mkdir()


FILES: dict[Callable[[Path], None], tuple[str, ...]] = {
    decathlon: ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
    nnunet: ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"),
    listed: ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"),
    plain: ("images/{}.nii.gz", "labels/{}.nii.gz"),
    brats: ("{0}/{0}_t1.nii.gz", "{0}/{0}_seg.nii.gz"),
}


def made(layout: Callable[[Path], None], root: Path) -> list[Path]:
    root.parent.mkdir(exist_ok=True)
    layout(root)
    for n, case in enumerate(CASES):
        image, label = (root / form.format(case) for form in FILES[layout])
        write_image(image, np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5) % (50 + n), np.eye(4))
        write_label(label, np.eye(5, dtype=np.uint8)[None, :4].repeat(3, axis=0), np.eye(4))
    return [root / form.format(case) for case in CASES for form in FILES[layout]]


def moved(file: Path, store: Path) -> None:
    """Move a file into a store, and leave a link."""
    store.mkdir(exist_ok=True)
    target = store / f"{file.parent.name}-{file.name}"
    file.rename(target)
    file.symlink_to(target)


def files_of(dataset: Dataset) -> list[tuple[str, tuple[Path, ...], Path | None]]:
    return [(case.id, case.images, case.label) for case in dataset.every]


@pytest.mark.parametrize("layout", FILES, ids=lambda layout: layout.__name__)
def test_links_out_of_the_folder_are_refused_together_and_followed_where_the_user_says_so(
    layout: Callable[[Path], None], tmp_path: Path
):
    root = tmp_path / "data"
    files = made(layout, root)
    before = open_dataset(root)
    for file in files[:4]:
        moved(file, tmp_path / "store")
    with pytest.raises(UserError, match="--follow-links") as refused:
        open_dataset(root)
    assert str(root) in str(refused.value)
    assert str(files[0]) in str(refused.value)
    assert str(refused.value).count("--follow-links") == 1
    assert files_of(open_dataset(root, follow_links=True)) == files_of(before)
    assert open_dataset(root, follow_links=True).labels == before.labels


def test_the_error_counts_every_case(tmp_path: Path):
    for file in made(nnunet, tmp_path / "data")[:4]:
        moved(file, tmp_path / "store")
    with pytest.raises(UserError, match="2 of 3 cases have files outside of this folder") as refused:
        open_dataset(tmp_path / "data")
    assert "and 1 more" in str(refused.value)


@pytest.mark.parametrize("layout", FILES, ids=lambda layout: layout.__name__)
def test_links_inside_the_folder_need_no_permission(layout: Callable[[Path], None], tmp_path: Path):
    """As git-annex and DataLad have them."""
    root = tmp_path / "data"
    for file in made(layout, root):
        moved(file, root / ".store")
    assert len(open_dataset(root).cases) == 3


@pytest.mark.parametrize("layout", FILES, ids=lambda layout: layout.__name__)
def test_the_folder_itself_may_be_a_link(layout: Callable[[Path], None], tmp_path: Path):
    made(layout, tmp_path / "far" / "data")
    (tmp_path / "here").symlink_to(tmp_path / "far" / "data")
    assert len(open_dataset(tmp_path / "here").cases) == 3


def test_a_linked_folder_of_images_is_refused(tmp_path: Path):
    made(nnunet, tmp_path / "data")
    (tmp_path / "data" / "imagesTr").rename(tmp_path / "images")
    (tmp_path / "data" / "imagesTr").symlink_to(tmp_path / "images")
    with pytest.raises(UserError, match="3 of 3 cases"):
        open_dataset(tmp_path / "data")


@pytest.mark.parametrize("absolute", [True, False])
def test_paths_in_a_description_do_not_leave_the_folder(absolute: bool, tmp_path: Path):
    made(decathlon, tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "data-2")  # a sibling whose name begins alike
    away = f"{tmp_path}/data-2" if absolute else "../data-2"
    entry = {"image": f"{away}/imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    describe(tmp_path / "data", modality={"0": "T1"}, training=[entry], test=[])
    with pytest.raises(UserError, match="1 of 1 cases"):
        open_dataset(tmp_path / "data")
    assert open_dataset(tmp_path / "data", follow_links=True).cases[0].images[0].is_file()


def test_a_description_that_is_a_link_is_not_read(tmp_path: Path):
    made(nnunet, tmp_path / "data")
    (tmp_path / "secret.json").write_text('{"file_ending": ["secret"]}')
    (tmp_path / "data" / "dataset.json").unlink()
    (tmp_path / "data" / "dataset.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(UserError, match="its description is a link") as refused:
        open_dataset(tmp_path / "data")
    assert "['secret']" not in str(refused.value)


def test_the_check_names_every_case_and_goes_on(tmp_path: Path):
    moved(made(nnunet, tmp_path / "data")[0], tmp_path / "store")
    found = voxward.check(tmp_path / "data").errors
    assert [(problem.case, problem.kind) for problem in found] == [("a", "outside")]
    assert not voxward.check(tmp_path / "data", reading=voxward.Reading(follow_links=True)).errors


def test_a_link_that_leads_nowhere_is_a_missing_file(tmp_path: Path):
    file = made(nnunet, tmp_path / "data")[0]
    file.unlink()
    file.symlink_to(tmp_path / "gone.nii.gz")
    assert [problem.kind for problem in voxward.check(tmp_path / "data").errors] == ["missing image"]


def test_links_that_go_round_are_a_missing_file(tmp_path: Path):
    file = made(nnunet, tmp_path / "data")[0]
    file.unlink()
    file.symlink_to(file)
    assert [problem.kind for problem in voxward.check(tmp_path / "data").errors] == ["missing image"]


def test_plain_labels_elsewhere_are_not_even_opened(tmp_path: Path):
    files = made(plain, tmp_path / "data")
    moved(files[1], tmp_path / "store")
    (tmp_path / "store" / "labels-a.nii.gz").write_bytes(b"")  # reading it would say that it is broken
    with pytest.raises(UserError, match="1 of 6 files are links that lead outside"):
        open_dataset(tmp_path / "data")


def test_segmentations_elsewhere_are_not_scored(tmp_path: Path):
    made(nnunet, tmp_path / "data")
    shutil.copytree(tmp_path / "data" / "labelsTr", tmp_path / "found")
    moved(tmp_path / "found" / "b.nii.gz", tmp_path / "store")
    with pytest.raises(UserError, match="1 of 3 files are links"):
        voxward.evaluate_segmentations(tmp_path / "found", tmp_path / "data", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    allowed = voxward.Reading(follow_links=True)
    scored = voxward.evaluate_segmentations(
        tmp_path / "found", tmp_path / "data", out=tmp_path / "out", reading=allowed
    )
    assert np.mean([case.mean("dice") for case in scored.cases]) == 1


def test_the_command_line_allows_it(tmp_path: Path):
    from voxward.cli import main

    moved(made(nnunet, tmp_path / "data")[0], tmp_path / "store")
    assert main(["check", str(tmp_path / "data")]) == 1
    assert main(["check", str(tmp_path / "data"), "--follow-links"]) == 0


def test_a_splits_file_elsewhere_is_not_read(tmp_path: Path):
    made(nnunet, tmp_path / "data")
    (tmp_path / "splits.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    (tmp_path / "data" / "splits_final.json").symlink_to(tmp_path / "splits.json")
    with pytest.raises(UserError, match="--follow-links"):
        open_dataset(tmp_path / "data")
    assert open_dataset(tmp_path / "data", follow_links=True).splits_file is not None
