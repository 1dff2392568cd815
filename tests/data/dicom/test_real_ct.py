"""A real CT goes to DICOM and back: geometry, intensities, masks, and what an attack made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from scipy.spatial.transform import Rotation

import voxward
from tests.data.dicom.write import RAS_TO_LPS, Scan, save, segmentation
from voxward.core.errors import CasesFailed
from voxward.data.io import read_image, read_label

pytestmark = pytest.mark.data
CROP = (slice(40, 88), slice(40, 80), slice(8, 20))
"""A part with the spleen and its border, so that the tests take little time."""


@pytest.fixture(scope="module")
def crop(data_root: Path) -> tuple[Scan, np.ndarray]:
    """The CT as a scan to be written, and the mask of the spleen."""
    folder = data_root / "Task09_Spleen_crop"
    image = read_image([folder / "imagesTr" / "spleen_2.nii.gz"])
    mask = read_label(folder / "labelsTr" / "spleen_2.nii.gz").array[CROP] > 0
    assert mask.any()
    assert not mask.all()
    affine = image.affine.copy()
    affine[:3, 3] = (image.affine @ [*(part.start for part in CROP), 1])[:3]
    # Scanners store the intensities from 0.
    return Scan((image.array[0][CROP].astype(np.int32) + 1024).astype(np.int16), affine), mask


def turned(scan: Scan, kind: str) -> Scan:
    affine = scan.affine.copy()
    if kind == "oblique":
        affine[:3, :3] = Rotation.from_euler("xyz", [20, -15, 35], degrees=True).as_matrix() @ affine[:3, :3]
    if kind == "tilted":
        affine[:3, :2] = Rotation.from_euler("x", 18, degrees=True).as_matrix() @ affine[:3, :2]
    return replace(scan, affine=affine)


def refuse_apart(found: np.ndarray, wanted: np.ndarray, shape: tuple[int, ...]) -> None:
    """Compare where the corners of a volume lie, in mm."""
    corners = np.stack(np.meshgrid(*((0, n - 1) for n in shape), (1,), indexing="ij"), -1).reshape(-1, 4).T
    np.testing.assert_allclose((found @ corners)[:3], (wanted @ corners)[:3], atol=1e-3)


@pytest.mark.parametrize("kind", ["axial", "oblique", "tilted"])
def test_a_real_ct_and_its_mask_go_there_and_back(crop, tmp_path: Path, kind: str) -> None:
    scan, spleen = turned(crop[0], kind), crop[1]
    scan.write(tmp_path / "scans" / "case" / "ct")
    save(segmentation(scan, {"spleen": spleen}), tmp_path / "scans" / "case" / "seg")
    data = voxward.from_dicom(tmp_path / "scans", out=tmp_path / "data").folder
    volume = read_image([data / "imagesTr" / "case_0000.nii.gz"])
    np.testing.assert_array_equal(volume.array[0], scan.values.astype(int) - 1024)
    refuse_apart(volume.affine, scan.affine, volume.shape)
    np.testing.assert_array_equal(read_label(data / "labelsTr" / "case.nii.gz").array, spleen)
    (written,) = voxward.to_dicom(data / "labelsTr", dataset=data, out=tmp_path / "out")
    # SimpleITK reads the frames that a SEG holds, in some order and without their places: highdicom knows these.
    frames = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(written)))
    assert (int((frames > 0).sum()), len(frames)) == (int(spleen.sum()), int(spleen.any((0, 1)).sum()))
    np.testing.assert_array_equal(mask_in(written, scan), spleen)


def mask_in(path: Path, scan: Scan) -> np.ndarray:
    """The only segment that highdicom finds, each frame in the slice that it says it lies in."""
    found = highdicom.seg.segread(path)
    (number,) = found.segment_numbers
    assert found.get_segment_description(number).segment_label == "spleen"
    places = np.array([(RAS_TO_LPS @ scan.affine @ [0, 0, n, 1])[:3] for n in range(scan.values.shape[2])])
    mask = np.zeros(scan.values.shape, bool)
    for group, frame in zip(found.PerFrameFunctionalGroupsSequence, found.pixel_array, strict=True):
        away = np.linalg.norm(places - np.array(group.PlanePositionSequence[0].ImagePositionPatient, float), axis=1)
        assert away.min() < 1e-3
        mask[:, :, away.argmin()] = frame.T > 0
    return mask


def test_what_is_no_volume_is_refused_and_the_whole_ct_beside_it_read(crop, tmp_path: Path) -> None:
    scan = crop[0]
    whole, gap, mixed = (tmp_path / "scans" / name for name in ("whole", "gap", "mixed"))
    scan.write(whole)
    replace(scan, series=pydicom.uid.generate_uid()).write(gap)[5].unlink()
    scan.write(mixed)
    replace(scan, series=pydicom.uid.generate_uid(), description="lung").write(mixed)
    with pytest.raises(CasesFailed) as caught:
        voxward.from_dicom(tmp_path / "scans", out=tmp_path / "data")
    said = {failure.case: str(failure) for failure in caught.value.failures}
    assert set(said) == {"gap", "mixed"}
    assert "slices lie 5 mm apart" in said["gap"]
    assert "1 slices seem to be missing" in said["gap"]
    assert "must be one image series, got 2" in said["mixed"]
    assert read_image([tmp_path / "data" / "imagesTs" / "whole_0000.nii.gz"]).shape == scan.values.shape
    # Named, one of two series is a volume.
    chosen = voxward.DicomSeries(series=["CT=lung"])
    one = voxward.from_dicom(mixed, out=tmp_path / "one", wanted=chosen).folder
    np.testing.assert_array_equal(
        read_image([one / "imagesTs" / "mixed_0000.nii.gz"]).array[0], scan.values.astype(int) - 1024
    )


class Bright(torch.nn.Module):
    """A network that needs no training: what is brighter than most of the body is the spleen."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth = torch.nn.Conv3d(1, 1, 3, padding=1, padding_mode="replicate")
        with torch.no_grad():
            self.smooth.weight.fill_(1 / 27)
            self.smooth.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (self.smooth(x) - 80) / 10
        return torch.cat([-y, y], 1)


@pytest.mark.filterwarnings("ignore:nothing is known about which images")
@pytest.mark.parametrize("kind", ["axial", "tilted"])
def test_what_an_attack_made_of_a_scan_becomes_a_series(crop, tmp_path: Path, kind: str, blank_pages) -> None:
    scan, spleen = turned(crop[0], kind), crop[1]
    scan.write(tmp_path / "scans" / "case" / "ct")
    save(segmentation(scan, {"spleen": spleen}), tmp_path / "scans" / "case" / "seg")
    data = voxward.from_dicom(tmp_path / "scans", out=tmp_path / "data").folder
    system = voxward.network_system(
        Bright(), name="bright", channels=[{"name": "CT", "normalization": "none"}],
        window=(32, 32, 8), labels={"background": 0, "spleen": 1},
    )  # fmt: skip
    quick = ["attacks=[fgsm-ce]", "controls=[]", "threat.eps=[8/255]", "keep=all"]
    found = voxward.attack(system, data, out=tmp_path / "attack", overrides=quick)
    (volume,) = (found.out / "volumes").glob("bright/fgsm-ce/*/case.nii.gz")
    (series,) = voxward.to_dicom(volume, dataset=data, out=tmp_path / "out", kind="image")
    # The files hold whole Hounsfield units, and so does the attacked volume of whole ones: nothing is rounded.
    attacked = read_image([volume])
    assert attacked.array.dtype == np.int16
    changed = attacked.array[0] - (scan.values.astype(int) - 1024)
    (record,) = [one for one in found.records if one.attack == "fgsm-ce"]
    (low, high), *_ = record.threat.bounds
    assert changed.any()
    assert np.abs(changed).max() <= record.eps * (high - low) * (1 + 1e-5)
    files = sorted((pydicom.dcmread(path) for path in series.iterdir()), key=lambda ds: int(ds.InstanceNumber))
    stored = np.stack([ds.pixel_array.T * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in files], -1)
    np.testing.assert_array_equal(stored, attacked.array[0])
    for n, ds in enumerate(files):
        position = (RAS_TO_LPS @ scan.affine @ [0, 0, n, 1])[:3]
        np.testing.assert_allclose(np.array(ds.ImagePositionPatient, float), position, atol=1e-3)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))
    image = SimpleITK.ReadImage(names)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), attacked.array[0])
    if kind == "axial":  # an image of SimpleITK has no shear
        corner = np.array(scan.values.shape) - 1
        lps = (RAS_TO_LPS @ scan.affine @ [*corner, 1])[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(corner.tolist()), lps, atol=1e-3)
