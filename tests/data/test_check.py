from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from voxward.data.check import CheckReport, check_dataset
from voxward.data.formats import open_dataset
from voxward.data.io import write_image, write_label


class Folder:
    """A dataset of six sound cases, each of which a test may break."""

    def __init__(self, root: Path) -> None:
        self.root = root
        names = [f"c{n}.nii.gz" for n in range(6)]
        for n, name in enumerate(names):
            self.image(name, np.random.default_rng(n).integers(0, 99, (5, 6, 7)).astype(np.float32))
            self.label(name, np.arange(210).reshape(5, 6, 7) % 3)
        self.describe(names)

    def describe(self, names: list[str], **changes: Any) -> None:
        description = {
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "a", "2": "b"},
            "training": [{"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names],
        }
        (self.root / "dataset.json").write_text(json.dumps(description | changes))

    def image(self, name: str, array: np.ndarray, affine: np.ndarray = np.eye(4)) -> Path:  # noqa: B008
        write_image(self.root / "imagesTr" / name, array, affine)
        return self.root / "imagesTr" / name

    def label(self, name: str, array: np.ndarray, affine: np.ndarray = np.eye(4)) -> Path:  # noqa: B008
        write_label(self.root / "labelsTr" / name, array, affine)
        return self.root / "labelsTr" / name

    def check(self) -> CheckReport:
        return check_dataset(open_dataset(self.root))

    def kinds(self) -> set[tuple[str, str]]:
        return {(problem.case, problem.kind) for problem in self.check().problems}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


ONES = np.ones((5, 6, 7), np.uint8)


def test_a_sound_dataset_passes_and_is_left_alone(folder: Folder) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.root.rglob("*")}
    seen: list[tuple[int, int]] = []
    report = check_dataset(open_dataset(folder.root), progress=lambda done, total: seen.append((done, total)))
    assert report == CheckReport((), 6)
    assert report.ok
    assert seen == [(n, 6) for n in range(7)]
    assert {path: path.stat().st_mtime_ns for path in folder.root.rglob("*")} == before


def test_all_faults_of_all_cases_are_in_one_report(folder: Folder) -> None:
    (folder.root / "imagesTr/c0.nii.gz").unlink()
    (folder.root / "labelsTr/c1.nii.gz").unlink()
    folder.label("c2.nii.gz", 7 * ONES)
    path = folder.root / "imagesTr/c3.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    folder.label("c4.nii.gz", np.ones((5, 6, 8), np.uint8))
    folder.image("c5.nii.gz", np.stack([ONES, 2 * ONES]))
    folder.label("c5.nii.gz", 0 * ONES, np.diag([1.0, 1.0, 2.0, 1.0]))
    folder.image("extra.nii.gz", ONES)
    folder.label("other.nii.gz", ONES)
    report = folder.check()
    assert {(problem.case, problem.kind) for problem in report.errors} == {
        ("c0", "missing image"),
        ("c1", "missing label"),
        ("c2", "label values"),
        ("c3", "unreadable image"),
        ("c4", "shape"),
        ("c5", "channels"),
        ("c5", "spacing"),
        ("extra", "orphan image"),
        ("other", "orphan label"),
    }
    assert {(problem.case, problem.kind) for problem in report.warnings} == {
        ("c5", "empty label"),
        (folder.root.name, "constant image"),
    }
    assert "[7]" in next(problem.message for problem in report.problems if problem.case == "c2")


def test_values_that_are_no_numbers(folder: Folder) -> None:
    for n, bad in enumerate((np.nan, np.inf)):
        array = np.arange(210, dtype=np.float32).reshape(5, 6, 7)
        array[1, 2, 3] = bad
        folder.image(f"c{n}.nii.gz", array)
    write_image(folder.root / "labelsTr/c2.nii.gz", ONES.astype(np.float32) / 2, np.eye(4))
    assert folder.kinds() == {("c0", "not finite"), ("c1", "not finite"), ("c2", "label not integer")}


def test_affines_that_are_none(folder: Folder) -> None:
    for n, affine in enumerate((np.diag([1.0, 0.0, 1.0, 1.0]), np.full((4, 4), np.nan))):
        image = nibabel.Nifti1Image(np.roll(np.arange(210, dtype=np.int16), n).reshape(5, 6, 7), np.eye(4))
        for row in range(3):
            image.header["srow_" + "xyz"[row]] = affine[row]
        image.header["sform_code"] = 1
        raw = nibabel.Nifti1Image(np.asanyarray(image.dataobj), None, image.header)
        nibabel.save(raw, folder.root / "imagesTr" / f"c{n}.nii.gz")
    assert folder.kinds() == {("c0", "affine"), ("c1", "affine")}


@pytest.mark.parametrize(("shift", "found"), [(0.5, True), (0.05, True), (1e-4, False)])
def test_a_label_that_lies_elsewhere(folder: Folder, shift: float, found: bool) -> None:
    affine = np.eye(4)
    affine[2, 3] = shift
    folder.label("c1.nii.gz", ONES, affine)
    assert folder.kinds() == ({("c1", "affine")} if found else set())


def test_a_label_of_the_mirrored_patient(folder: Folder) -> None:
    folder.label("c1.nii.gz", ONES, np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert folder.kinds() == {("c1", "affine")}


def test_channels_in_files_are_compared(tmp_path: Path) -> None:
    description = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    image = np.arange(210, dtype=np.int16).reshape(5, 6, 7)
    for case, other in (("a", image), ("b", image[:, :5]), ("c", None)):
        write_image(tmp_path / f"imagesTr/{case}_0000.nii", image, np.eye(4))
        write_label(tmp_path / f"labelsTr/{case}.nii", ONES, np.eye(4))
        if other is not None:
            write_image(tmp_path / f"imagesTr/{case}_0001.nii", other, np.eye(4))
    write_image(tmp_path / "imagesTr/a_0002.nii", image, np.eye(4))
    write_image(tmp_path / "imagesTs/z_0000.nii", image, np.eye(4))
    report = check_dataset(open_dataset(tmp_path))
    assert report.cases == 4
    assert {(problem.case, problem.kind) for problem in report.problems} == {
        ("b", "shape"),
        ("c", "missing image"),
        ("a_0002", "orphan image"),
        ("z", "missing image"),
    }


def test_a_folder_of_links_is_judged_by_its_links(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    linked = tmp_path_factory.mktemp("linked")
    for part in ("imagesTr", "labelsTr"):
        (linked / part).mkdir()
        os.symlink(folder.root / part / "c0.nii.gz", linked / part / "c0.nii.gz")
    other = Folder.__new__(Folder)
    other.root = linked
    other.describe(["c0.nii.gz"])
    assert check_dataset(open_dataset(linked, follow_links=True)) == CheckReport((), 1)


def test_a_dataset_without_cases_is_an_error(folder: Folder) -> None:
    folder.describe([])
    assert not folder.check().ok


@pytest.mark.data
def test_the_real_faults_are_found(data_root: Path) -> None:
    report = check_dataset(open_dataset(data_root / "broken"))
    assert {(problem.case, problem.kind) for problem in report.errors} == {
        ("hippocampus_118", "missing label"),
        ("hippocampus_118", "duplicate"),  # all three files hold the same image
        ("hippocampus_010", "shape"),
        ("hippocampus_281", "shape"),
        ("hippocampus_281", "spacing"),
    }


@pytest.mark.data
@pytest.mark.parametrize(
    ("task", "cases"),
    [
        ("Task04_Hippocampus", 234),
        ("Task20_SoftTissueSarcoma", 20),
        ("Task01_BrainTumour_slabs", 2),
        ("Task21_MSLesion", 1),
        ("Task09_Spleen_crop", 1),
    ],
)
def test_sound_real_datasets_pass(data_root: Path, task: str, cases: int) -> None:
    assert check_dataset(open_dataset(data_root / task)) == CheckReport((), cases)


def test_classes_that_differ_in_left_and_right_are_named(folder: Folder) -> None:
    folder.describe([f"c{n}.nii.gz" for n in range(6)], labels={"0": "background", "1": "kidney_l", "2": "kidney_r"})
    report = folder.check()
    (problem,) = report.problems
    assert (problem.severity, problem.kind) == ("warning", "left and right")
    assert "kidney_l and kidney_r" in problem.message
    assert report.ok
