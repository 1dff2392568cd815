"""Masks and attacked volumes go back to DICOM: highdicom and SimpleITK read what was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

import voxward
from tests.data.dicom.test_from_dicom import SHAPE, organs, scan
from tests.data.dicom.write import Scan, multi_frame, save, segmentation
from voxward.cli import main
from voxward.core.errors import CasesFailed
from voxward.data.io import read_image, write_image, write_label


@pytest.fixture(params=["axial", "oblique", "tilted"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def dataset(root: Path, one: Scan, files: str = "slices") -> Path:
    """A dataset of one labelled case."""
    if files == "slices":
        one.write(root / "scans" / "case" / "ct")
    else:
        save(multi_frame(one), root / "scans" / "case" / "whole.dcm")
    save(segmentation(one, organs()), root / "scans" / "case" / "seg")
    return voxward.from_dicom(root / "scans", out=root / "data").folder


def mask(root: Path, data: Path, name: str = "case") -> Path:
    label = np.zeros(SHAPE, np.uint8)
    label[3:9, 2:8, 2:5], label[10:14, 9:12, 5:7] = 1, 2
    path = root / "masks" / f"{name}.nii.gz"
    path.parent.mkdir(exist_ok=True)
    write_label(path, label, read_image([data / "imagesTr" / "case_0000.nii.gz"]).affine)
    return path


def held(path: Path, one: Scan) -> np.ndarray:
    """What highdicom finds in a segmentation, in the slices of the scan, as (columns, rows, slices)."""
    found = highdicom.seg.segread(path)
    numbers = found.segment_numbers
    label = np.zeros(SHAPE, int)
    for group, pixels in zip(found.PerFrameFunctionalGroupsSequence, found.pixel_array, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        lps = np.diag([-1, -1, 1, 1]) @ one.affine
        n = int(np.argmin([np.linalg.norm((lps @ [0, 0, k, 1])[:3] - position) for k in range(SHAPE[2])]))
        assert np.linalg.norm((lps @ [0, 0, n, 1])[:3] - position) < 1e-3
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert number in numbers
        label[:, :, n] += number * pixels.T
    return label


@pytest.mark.parametrize("files", ["slices", "multi-frame"])
def test_a_mask_becomes_a_segmentation(tmp_path: Path, kind: str, files: str) -> None:
    one = scan(kind)
    data = dataset(tmp_path, one, files)
    path = mask(tmp_path, data)
    (written,) = voxward.to_dicom(tmp_path / "masks", dataset=data, out=tmp_path / "out")
    assert written == tmp_path / "out" / "case.dcm"
    np.testing.assert_array_equal(held(written, one), read_image([path]).array[0])
    found = highdicom.seg.segread(written)
    assert [str(one.SegmentLabel) for one in found.SegmentSequence] == ["liver", "spleen"]
    assert found.get_segment_description(1).segmented_property_type.value == "10200004"
    assert str(found.StudyInstanceUID) == one.study
    assert len(found.PerFrameFunctionalGroupsSequence) == 5  # three slices of one, two of the other: no empty frame


def test_simpleitk_reads_the_same_mask(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    one = scan()
    data = dataset(tmp_path, one)
    path = mask(tmp_path, data)
    (written,) = voxward.to_dicom(path, dataset=data, out=tmp_path / "out")
    frames = itk.GetArrayFromImage(itk.ReadImage(str(written)))  # the frames that are there, as GDCM finds them
    assert frames.shape == (5, SHAPE[1], SHAPE[0])
    assert int((frames > 0).sum()) == int((read_image([path]).array > 0).sum())


def test_what_came_from_dicom_goes_back_to_the_same_label(tmp_path: Path, kind: str) -> None:
    one = scan(kind)
    data = dataset(tmp_path, one)
    (written,) = voxward.to_dicom(data / "labelsTr", dataset=data, out=tmp_path / "out")
    masks = organs()
    np.testing.assert_array_equal(held(written, one), masks["liver"] + 2 * masks["spleen"])


def test_declared_codes_are_written(tmp_path: Path) -> None:
    data = dataset(tmp_path, scan())
    description = json.loads((data / "dataset.json").read_text())
    code = {
        "category": ["SCT", "49755003", "Morphologically Abnormal Structure"],
        "type": ["SCT", "108369006", "Tumor"],
    }
    (data / "dataset.json").write_text(json.dumps(description | {"codes": {"liver": code}}))
    (written,) = voxward.to_dicom(mask(tmp_path, data), dataset=data, out=tmp_path / "out")
    found = highdicom.seg.segread(written).get_segment_description(1)
    assert found.segmented_property_type.value == "108369006"
    (data / "dataset.json").write_text(json.dumps(description | {"codes": {"liver": "SCT"}}))
    with pytest.raises(ValueError, match='"codes" must be'):
        voxward.to_dicom(mask(tmp_path, data), dataset=data, out=tmp_path / "other")


def test_an_attacked_volume_becomes_a_series_that_says_what_it_is(tmp_path: Path, kind: str) -> None:
    one = scan(kind)
    data = dataset(tmp_path, one)
    clean = read_image([data / "imagesTr" / "case_0000.nii.gz"])
    changed = clean.array + np.int16(3)
    write_image(tmp_path / "case.nii.gz", changed, clean.affine)
    (folder,) = voxward.to_dicom(tmp_path / "case.nii.gz", dataset=data, out=tmp_path / "out", kind="image")
    files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert {str(ds.SeriesDescription) for ds in files} == {"derived, adversarial test image"}
    assert {ds.ImageType[0] for ds in files} == {"DERIVED"}
    assert {str(ds.StudyInstanceUID) for ds in files} == {one.study}
    assert one.series not in {str(ds.SeriesInstanceUID) for ds in files}
    assert len({str(ds.SOPInstanceUID) for ds in files}) == SHAPE[2]
    assert not {str(ds.SOPInstanceUID) for ds in files} & {
        str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "scans" / "case" / "ct").iterdir()
    }
    again = voxward.from_dicom(folder, out=tmp_path / "again").folder
    back = read_image([again / "imagesTs" / "case_0000.nii.gz"])
    np.testing.assert_array_equal(back.array, changed)
    np.testing.assert_allclose(back.affine, clean.affine, atol=1e-3)
    with pytest.raises(ValueError, match="is there already"):
        voxward.to_dicom(tmp_path / "case.nii.gz", dataset=data, out=tmp_path / "out", kind="image")


def test_intensities_that_the_files_cannot_hold_are_refused(tmp_path: Path) -> None:
    data = dataset(tmp_path, scan())
    clean = read_image([data / "imagesTr" / "case_0000.nii.gz"])
    for name, change, message in (
        ("half", 0.5, "between two that its files can hold"),
        ("far", 4e4, "its files store"),
    ):
        write_image(tmp_path / "case.nii.gz", clean.array.astype(np.float32) + np.float32(change), clean.affine)
        with pytest.raises(CasesFailed, match=message):
            voxward.to_dicom(tmp_path / "case.nii.gz", dataset=data, out=tmp_path / name, kind="image")
        assert not list((tmp_path / name).rglob("*.dcm"))


def test_what_does_not_belong_to_the_files_is_refused(tmp_path: Path) -> None:
    one = scan()
    data = dataset(tmp_path, one)
    path = mask(tmp_path, data)
    with pytest.raises(ValueError, match="is called like no case"):
        voxward.to_dicom(mask(tmp_path, data, "other"), dataset=data, out=tmp_path / "out")
    with pytest.raises(ValueError, match="was not written by voxward from-dicom"):
        voxward.to_dicom(path, dataset=tmp_path / "masks", out=tmp_path / "out")
    moved = read_image([path])
    moved.affine[0, 3] += 5
    write_label(tmp_path / "case.nii.gz", moved.array[0], moved.affine)
    with pytest.raises(CasesFailed, match="does not lie in the slices of case case"):
        voxward.to_dicom(tmp_path / "case.nii.gz", dataset=data, out=tmp_path / "out")
    write_label(tmp_path / "case.nii.gz", np.zeros(SHAPE, np.uint8), read_image([path]).affine)
    (empty,) = voxward.to_dicom(tmp_path / "case.nii.gz", dataset=data, out=tmp_path / "empty")
    assert not held(empty, one).any()
    replace(one, values=one.values + np.int16(1)).write(tmp_path / "scans" / "case" / "ct")
    with pytest.raises(CasesFailed, match="is another than when case case was made"):
        voxward.to_dicom(path, dataset=data, out=tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset(tmp_path, scan())
    path = mask(tmp_path, data)
    assert main(["to-dicom", str(path), "--dataset", str(data), "--out", str(tmp_path / "out")]) == 0
    assert "1 case in" in capsys.readouterr().out
