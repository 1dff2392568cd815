"""DICOM files become datasets, with geometry, intensities and labels that SimpleITK and highdicom confirm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import voxward
from tests.data.dicom.write import IDENTITY, Scan, contours, multi_frame, save, segmentation
from voxward.core.errors import CasesFailed
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label
from voxward.data.nifti import read as read_nifti

SHAPE = (20, 16, 9)


def affine(kind: str = "axial") -> np.ndarray:
    found = np.diag([-0.8, -0.9, 2.5, 1.0])
    if kind == "oblique":
        found[:3, :3] = Rotation.from_euler("xyz", [20, -15, 35], degrees=True).as_matrix() @ found[:3, :3]
    if kind == "tilted":  # the table moves along the body, the gantry leans to it
        found[:3, :2] = Rotation.from_euler("x", 18, degrees=True).as_matrix() @ found[:3, :2]
    found[:3, 3] = 101.25, -33.5, 412.125
    return found


def scan(kind: str = "axial", seed: int = 0, **changes) -> Scan:
    values = np.random.default_rng(seed).integers(0, 3000, SHAPE).astype(np.int16)
    return replace(Scan(values, affine(kind)), **changes)


def organs(shape=SHAPE) -> dict[str, np.ndarray]:
    liver, spleen = np.zeros(shape, bool), np.zeros(shape, bool)
    liver[2:9, 3:12, 1:5], spleen[12:18, 5:9, 4:8] = True, True
    return {"spleen": spleen, "liver": liver}


@pytest.mark.parametrize("kind", ["axial", "oblique", "tilted"])
@pytest.mark.parametrize("files", ["slices", "multi-frame"])
def test_geometry_and_hounsfield_units_are_kept(tmp_path: Path, kind: str, files: str) -> None:
    one = scan(kind)
    if files == "slices":
        one.write(tmp_path / "scans" / "case")
    else:
        save(multi_frame(one), tmp_path / "scans" / "case" / "whole.dcm")
    found = voxward.from_dicom(tmp_path / "scans", out=tmp_path / "out")
    assert found.unlabelled == ("case",)
    volume = read_image([tmp_path / "out" / "imagesTs" / "case_0000.nii.gz"])
    corners = np.array([(i, j, k, 1) for i in (0, 19) for j in (0, 15) for k in (0, 8)]).T
    np.testing.assert_allclose((volume.affine @ corners)[:3], (one.affine @ corners)[:3], atol=1e-3)
    # A qform cannot hold the axes of a tilted scan: none is better than another place.
    header = nibabel.load(tmp_path / "out" / "imagesTs" / "case_0000.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0 if kind == "tilted" else 1, 1)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array[0], one.values.astype(int) - 1024)


@pytest.mark.parametrize("kind", ["axial", "oblique"])
def test_it_is_what_simpleitk_reads(tmp_path: Path, kind: str) -> None:
    itk = pytest.importorskip("SimpleITK")
    scan(kind).write(tmp_path / "scan")
    voxward.from_dicom(tmp_path / "scan", out=tmp_path / "out")
    volume = read_image([tmp_path / "out" / "imagesTs" / "scan_0000.nii.gz"])
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "scan")))
    other = reader.Execute()
    np.testing.assert_array_equal(volume.array[0], itk.GetArrayFromImage(other).T)
    for place in ((0, 0, 0), (19, 0, 0), (0, 15, 0), (0, 0, 8), (19, 15, 8)):
        ours = np.diag([-1, -1, 1, 1]) @ volume.affine @ [*place, 1]
        np.testing.assert_allclose(ours[:3], other.TransformIndexToPhysicalPoint(place), atol=1e-3)


def test_a_scale_is_kept_with_the_integers_and_one_of_each_slice_is_applied(tmp_path: Path) -> None:
    one = scan(modality="MR", slope=0.37, intercept=0.0, description="T1")
    one.write(tmp_path / "scans" / "mr")
    pet = scan(modality="PT", description="PET", extra={"RescaleSlope": lambda n: str(0.5 + n)}, intercept=0.0)
    pet.write(tmp_path / "pet" / "pet")
    voxward.from_dicom(tmp_path / "scans", out=tmp_path / "a")
    voxward.from_dicom(tmp_path / "pet", out=tmp_path / "b")
    volume = read_nifti(tmp_path / "a" / "imagesTs" / "mr_0000.nii.gz")
    assert volume.scaling is not None
    assert volume.scaling.kind == "int16"
    np.testing.assert_allclose(volume.array[0], one.values * 0.37, rtol=1e-6)
    other = read_image([tmp_path / "b" / "imagesTs" / "pet_0000.nii.gz"]).array[0]
    np.testing.assert_allclose(other, pet.values * (0.5 + np.arange(9)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["axial", "oblique", "tilted"])
@pytest.mark.parametrize("form", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_becomes_the_label(tmp_path: Path, kind: str, form: str) -> None:
    one, masks = scan(kind), organs()
    one.write(tmp_path / "scans" / "case" / "ct")
    drawn = segmentation(one, masks, form) if form != "LABELMAP" else _labelmap(one, masks)
    save(drawn, tmp_path / "scans" / "case" / "seg.dcm")
    found = voxward.from_dicom(tmp_path / "scans", out=tmp_path / "out")
    assert found.classes == ("liver", "spleen")
    dataset = open_dataset(tmp_path / "out")
    assert dataset.labels.names == ("background", "liver", "spleen")
    assert dataset.channels == ("CT",)
    label = read_label(tmp_path / "out" / "labelsTr" / "case.nii.gz").array
    np.testing.assert_array_equal(label, masks["liver"] + 2 * masks["spleen"])
    assert voxward.check(tmp_path / "out").ok


def _labelmap(one: Scan, masks: dict[str, np.ndarray]):
    import highdicom
    from pydicom.sr.codedict import codes

    values = sum((n * mask.astype(np.uint8) for n, mask in enumerate(masks.values(), 1)), np.zeros(SHAPE, np.uint8))
    described = [
        highdicom.seg.SegmentDescription(
            n, name, codes.SCT.Organ, codes.SCT.Liver, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for n, name in enumerate(masks, 1)
    ]
    return highdicom.seg.Segmentation(
        sorted(one.slices(), key=lambda s: s.InstanceNumber), values.transpose(2, 1, 0), "LABELMAP", described,
        **IDENTITY,
    )  # fmt: skip


def test_contours_become_the_label_and_one_inside_another_is_a_hole(tmp_path: Path) -> None:
    one = scan("oblique")
    one.write(tmp_path / "case")
    square = np.array([(2.5, 3.5), (10.5, 3.5), (10.5, 12.5), (2.5, 12.5)])
    hole = np.array([(4.5, 5.5), (7.5, 5.5), (7.5, 8.5), (4.5, 8.5)])
    save(contours(one, {"liver": [(2, square), (2, hole), (3, square)]}), tmp_path / "case" / "rt")
    voxward.from_dicom(tmp_path / "case", out=tmp_path / "out")
    label = read_label(tmp_path / "out" / "labelsTr" / "case.nii.gz").array
    wanted = np.zeros(SHAPE, int)
    wanted[3:11, 4:13, 2:4] = 1
    wanted[5:8, 6:9, 2] = 0
    np.testing.assert_array_equal(label, wanted)


def test_classes_are_chosen_and_later_ones_lie_over_earlier_ones(tmp_path: Path) -> None:
    one, masks = scan(), organs()
    masks["tumour"] = np.zeros(SHAPE, bool)
    masks["tumour"][4:6, 5:8, 2:4] = True
    one.write(tmp_path / "case")
    save(segmentation(one, masks), tmp_path / "case" / "seg")
    with pytest.raises(CasesFailed, match=r"'liver' and 'tumour' share 12 voxels.*--classes"):
        voxward.from_dicom(tmp_path / "case", out=tmp_path / "none")
    assert not (tmp_path / "none" / "imagesTr").exists()
    voxward.from_dicom(tmp_path / "case", out=tmp_path / "out", classes=["liver", "tumour"])
    label = read_label(tmp_path / "out" / "labelsTr" / "case.nii.gz").array
    np.testing.assert_array_equal(label, np.where(masks["tumour"], 2, masks["liver"]))
    with pytest.raises(CasesFailed, match="describes none of the classes kidney; it describes liver, spleen, tumour"):
        voxward.from_dicom(tmp_path / "case", out=tmp_path / "other", classes=["kidney"])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", r"slices lie 2.5 mm apart, but not between .*5 mm\): 1 slices seem to be missing"),
        ("mixed", r"must be one image series, got 2.*abdomen.*head.*--series"),
        ("echoes", r"9 slices lie where another one lies.*echo time \(4.6, 9.2\)"),
        ("copies", r"9 slices lie where another one lies.*or copies of files"),
        ("turned", r"of one series, and differ in ImageOrientationPatient"),
        ("uneven", r"do not lie on one line at even distances.*0.3 mm"),
        ("cut", r"is truncated, corrupt, or no DICOM file|pixels cannot be decoded"),
        ("colours", r"has colours \(RGB\)"),
        ("nowhere", r"ImageOrientationPatient must be 6 numbers"),
    ],
)
def test_what_is_no_volume_is_refused_by_name_and_costs_no_other_case(tmp_path: Path, fault: str, message: str) -> None:
    folder, one = tmp_path / "scans" / "bad", scan(modality="MR")
    scan(seed=1, modality="MR").write(tmp_path / "scans" / "good")
    extra = {
        "turned": {
            "ImageOrientationPatient": lambda n: (
                ["0", "1", "0", "1", "0", "0"] if n == 3 else ["1", "0", "0", "0", "1", "0"]
            )
        },
        "colours": {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
        "nowhere": {"ImageOrientationPatient": None},
        "uneven": {"ImagePositionPatient": lambda n: ["0", "0", str(2.5 * n + (0.3 if n == 4 else 0))]},
        "echoes": {"EchoTime": "4.6"},
    }.get(fault, {})
    paths = replace(one, extra=extra).write(folder)
    if fault == "missing":
        paths[4].unlink()
    if fault == "mixed":
        scan(modality="MR", description="head").write(folder)
    if fault == "echoes":
        replace(one, extra={"EchoTime": "9.2"}).write(folder / "second")
    if fault == "copies":
        one.write(folder / "second")
    if fault == "cut":
        paths[2].write_bytes(paths[2].read_bytes()[:-200])
    with pytest.raises(CasesFailed, match=message) as caught:
        voxward.from_dicom(tmp_path / "scans", out=tmp_path / "out")
    assert [failure.case for failure in caught.value.failures] == ["bad"]
    assert sorted(path.name for path in (tmp_path / "out" / "imagesTs").glob("*.gz")) == ["good_0000.nii.gz"]


def test_channels_are_series_that_are_named(tmp_path: Path) -> None:
    one = scan(modality="MR", description="Ax T1 post")
    other = replace(
        scan(seed=1, modality="MR", description="ax FLAIR"), frame_of_reference=one.frame_of_reference, study=one.study
    )
    one.write(tmp_path / "case")
    other.write(tmp_path / "case")
    save(segmentation(one, organs()), tmp_path / "case" / "seg")
    wanted = voxward.DicomSeries(series=["FLAIR=flair", "T1=t1"])
    voxward.from_dicom(tmp_path / "case", out=tmp_path / "out", wanted=wanted)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.channels == ("FLAIR", "T1")
    values = read_image(dataset.cases[0].images).array + 1024
    np.testing.assert_array_equal(values, np.stack([other.values, one.values]))
    with pytest.raises(CasesFailed, match=r"got 0\. It holds"):
        voxward.from_dicom(tmp_path / "case", out=tmp_path / "none", wanted=voxward.DicomSeries(["T1=t1", "T2=t2"]))


def test_ground_truth_of_another_scan_is_refused(tmp_path: Path) -> None:
    one, moved = scan(), scan("oblique")
    same = {"frame_of_reference": one.frame_of_reference, "study": one.study}
    for name, drawn in {
        "frame": segmentation(replace(scan(), study=one.study), organs()),
        "grid": segmentation(replace(moved, **same), organs()),
        "rt": contours(replace(moved, **same), {"a": [(2, np.eye(3, 2) * 5)]}),
    }.items():
        one.write(tmp_path / name)
        save(drawn, tmp_path / name / "truth")
    messages = {"frame": "in other coordinates", "grid": "lie between the voxels", "rt": "between slices|outside of"}
    for name, message in messages.items():
        with pytest.raises(CasesFailed, match=message):
            voxward.from_dicom(tmp_path / name, out=tmp_path / "out" / name)


def test_what_a_localizer_or_another_program_left_is_passed_over(tmp_path: Path) -> None:
    one = scan()
    one.write(tmp_path / "case")
    scan(description="scout", extra={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(tmp_path / "case" / "x")
    (tmp_path / "case" / "notes.txt").write_text("mine")
    (tmp_path / "case" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert voxward.from_dicom(tmp_path / "case", out=tmp_path / "out").unlabelled == ("case",)


def test_nothing_about_the_patient_is_written_and_no_file_of_others_is_replaced(tmp_path: Path) -> None:
    scan().write(tmp_path / "scans" / "case")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there and not empty"):
        voxward.from_dicom(tmp_path / "scans", out=tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    voxward.from_dicom(tmp_path / "scans", out=tmp_path / "out")
    assert "Some" not in (tmp_path / "out" / "dicom.json").read_text()


def test_who_gives_dicom_files_to_another_command_is_told_what_to_do(tmp_path: Path) -> None:
    scan().write(tmp_path / "scans" / "case")
    with pytest.raises(ValueError, match="It holds DICOM files, of which `voxward from-dicom` makes a dataset"):
        voxward.plan(tmp_path / "scans")


def test_a_file_that_only_claims_to_be_dicom_is_named(tmp_path: Path) -> None:
    scan().write(tmp_path / "case")
    (tmp_path / "case" / "slice.dcm").write_bytes(b"no")
    with pytest.raises(CasesFailed, match=r"slice\.dcm is truncated, corrupt, or no DICOM file"):
        voxward.from_dicom(tmp_path / "case", out=tmp_path / "out")


def test_two_folders_of_one_name_and_no_dicom_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        scan().write(tmp_path / name / "case")
    with pytest.raises(ValueError, match="would be the same case 'case'"):
        voxward.from_dicom([tmp_path / "a", tmp_path / "b"], out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no DICOM file"):
        voxward.from_dicom(tmp_path / "empty", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from voxward.cli import main

    one = scan()
    one.write(tmp_path / "scans" / "case")
    save(segmentation(one, organs()), tmp_path / "scans" / "case" / "seg")
    line = ["from-dicom", str(tmp_path / "scans"), "--out", str(tmp_path / "out"), "--classes", "spleen", "liver"]
    assert main(line) == 0
    assert "1 labelled, 0 without ground truth; classes: spleen, liver" in capsys.readouterr().out
    scan().write(tmp_path / "scans" / "second")
    scan(description="more").write(tmp_path / "scans" / "second")
    line[line.index(str(tmp_path / "out"))] = str(tmp_path / "again")
    assert main(line) == 1


def _case(root: Path, truth, one: Scan | None = None) -> Path:
    one = scan() if one is None else one
    one.write(root / "case" / "ct")
    save(truth(one), root / "case" / "truth")
    return root / "case"


def test_a_class_that_is_spelt_in_another_way_is_not_lost(tmp_path: Path) -> None:
    masks = organs()
    folder = _case(tmp_path, lambda one: segmentation(one, {"Spleen ": masks["spleen"], "liver": masks["liver"]}))
    with pytest.raises(CasesFailed, match="calls 'Spleen' what is the class 'spleen'"):
        voxward.from_dicom(folder, out=tmp_path / "out", classes=["liver", "spleen"])


def test_a_segment_that_is_not_described_is_refused(tmp_path: Path) -> None:
    def truth(one):
        found = segmentation(one, organs())
        del found.SegmentSequence[1]
        return found

    with pytest.raises(CasesFailed, match="marks a segment 2, which it does not describe"):
        voxward.from_dicom(_case(tmp_path, truth), out=tmp_path / "out")


def test_frames_that_are_not_said_to_lie_anywhere_are_refused(tmp_path: Path) -> None:
    def truth(one):
        found = segmentation(one, organs())
        del found.PerFrameFunctionalGroupsSequence[-1]
        return found

    with pytest.raises(CasesFailed, match="holds 8 frames, and says of 7 where they lie"):
        voxward.from_dicom(_case(tmp_path, truth), out=tmp_path / "out")


SQUARE = np.array([(2.5, 3.5), (10.5, 3.5), (10.5, 12.5), (2.5, 12.5)])


@pytest.mark.parametrize(
    ("pieces", "message", "voxels"),
    [
        ([(2, SQUARE), (2, SQUARE)], "holds a contour twice", 72),
        ([(2, SQUARE), (2, SQUARE + np.array([4, 0]))], "cross: both are marked", 72 + 36),
        ([(2, SQUARE), (5, SQUARE)], "is not drawn in 2 of the slices", 144),
        ([(2, SQUARE), (3, SQUARE[:2])], "encloses nothing", 72),
    ],
)
def test_contours_that_are_odd_are_named_and_not_lost(tmp_path: Path, pieces, message: str, voxels: int) -> None:
    folder = _case(tmp_path, lambda one: contours(one, {"liver": pieces}))
    with pytest.warns(UserWarning, match=message):
        voxward.from_dicom(folder, out=tmp_path / "out")
    assert np.count_nonzero(read_label(tmp_path / "out" / "labelsTr" / "case.nii.gz").array) == voxels


def test_two_contour_lists_of_one_structure_are_put_together(tmp_path: Path) -> None:
    def truth(one):
        found = contours(one, {"liver": [(2, SQUARE)], "other": [(3, SQUARE)]})
        found.ROIContourSequence[1].ReferencedROINumber = 1
        return found

    voxward.from_dicom(_case(tmp_path, truth), out=tmp_path / "out", classes=["liver"])
    assert np.count_nonzero(read_label(tmp_path / "out" / "labelsTr" / "case.nii.gz").array) == 144


def test_ground_truth_of_another_patient_is_refused(tmp_path: Path) -> None:
    def truth(one):
        found = contours(one, {"liver": [(2, SQUARE)]})
        found.PatientID = "2"
        return found

    with pytest.raises(CasesFailed, match="is of another patient"):
        voxward.from_dicom(_case(tmp_path, truth), out=tmp_path / "out")


def test_files_that_would_be_passed_over_are_named(tmp_path: Path) -> None:
    paths = scan().write(tmp_path / "scans" / "a")
    (tmp_path / "scans" / "b").mkdir()
    (tmp_path / "scans" / "b" / "notes.txt").write_text("no")
    with pytest.warns(UserWarning, match="the folders b hold no DICOM file"):
        voxward.from_dicom(tmp_path / "scans", out=tmp_path / "out")
    paths[0].write_bytes(b"")  # the last slice, whose loss no distance shows
    with pytest.raises(CasesFailed, match="is empty: is it a slice that was not copied"):
        voxward.from_dicom(tmp_path / "scans" / "a", out=tmp_path / "second")
    paths[0].unlink()
    (tmp_path / "scans" / "a" / "more").symlink_to(tmp_path / "scans" / "b")
    with pytest.raises(CasesFailed, match="is a link to another folder"):
        voxward.from_dicom(tmp_path / "scans" / "a", out=tmp_path / "third")


def test_slices_that_lie_further_apart_than_they_are_thick_are_warned_of(tmp_path: Path) -> None:
    paths = scan().write(tmp_path / "case")
    for path in paths[1::2]:
        path.unlink()
    with pytest.warns(UserWarning, match=r"2\.5 mm thick or apart, and they lie 5 mm apart: are slices missing"):
        voxward.from_dicom(tmp_path / "case", out=tmp_path / "out")


def test_intensities_that_are_said_in_another_way_are_refused(tmp_path: Path) -> None:
    for name, extra, message in (
        ("palette", {"PhotometricInterpretation": "PALETTE COLOR"}, "has colours"),
        ("mosaic", {"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}, "many slices in one picture"),
    ):
        scan(modality="MR", extra=extra).write(tmp_path / name)
        with pytest.raises(CasesFailed, match=message):
            voxward.from_dicom(tmp_path / name, out=tmp_path / "out")


def test_one_slice_needs_its_thickness(tmp_path: Path) -> None:
    for path in scan().write(tmp_path / "a")[1:]:
        path.unlink()
    voxward.from_dicom(tmp_path / "a", out=tmp_path / "out")
    assert read_image([tmp_path / "out" / "imagesTs" / "a_0000.nii.gz"]).spacing[2] == pytest.approx(2.5)
    for path in scan(extra={"SliceThickness": None}).write(tmp_path / "b")[1:]:
        path.unlink()
    with pytest.raises(CasesFailed, match="does not say how thick it is"):
        voxward.from_dicom(tmp_path / "b", out=tmp_path / "other")


def test_one_series_is_not_two_channels(tmp_path: Path) -> None:
    scan(modality="MR", description="t1 post").write(tmp_path / "case")
    with pytest.raises(CasesFailed, match="two channels are the same series"):
        voxward.from_dicom(tmp_path / "case", out=tmp_path / "out", wanted=voxward.DicomSeries(["A=post", "B=t1 post"]))
