"""One grid said in several units; voxel sizes that are nowhere said."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from voxward.data.io import read_header, read_image, read_label, write_image, write_label

AFFINE_MM = np.array([[0.0, -0.025, 0.0, 1.5], [0.025, 0.0, 0.0, -2.0], [0.0, 0.0, 0.05, 3.25], [0.0, 0.0, 0.0, 1.0]])
PER_MM = {"meter": 1e-3, "mm": 1.0, "micron": 1e3, "unknown": 1.0}
SHAPE = (5, 4, 3)


def in_unit(unit: str) -> np.ndarray:
    return np.diag([PER_MM[unit]] * 3 + [1.0]) @ AFFINE_MM


def save_nifti(path: Path, unit: str, array: np.ndarray | None = None, qform: int = 1, sform: int = 1) -> Path:
    image = nibabel.Nifti1Image(np.ones(SHAPE, np.int16) if array is None else array, in_unit(unit))
    image.header.set_xyzt_units(unit)
    image.set_sform(in_unit(unit), sform)
    image.set_qform(in_unit(unit), qform)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (1, 0), (0, 2)])
@pytest.mark.parametrize("unit", PER_MM)
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_nifti_affine_is_in_mm(tmp_path: Path, name: str, unit: str, qform: int, sform: int) -> None:
    path = save_nifti(tmp_path / name, unit, qform=qform, sform=sform)
    for found in (read_header(path).affine, read_image([path]).affine, read_label(path).affine):
        np.testing.assert_allclose(found, AFFINE_MM, atol=1e-6)
    np.testing.assert_allclose(read_image([path]).spacing, (0.025, 0.025, 0.05), rtol=1e-6)


@pytest.mark.parametrize("code", [4, 5, 7, 32 + 4])
def test_a_code_that_means_no_length_is_mm(tmp_path: Path, code: int) -> None:
    path = save_nifti(tmp_path / "x.nii", "mm")
    raw = bytearray(path.read_bytes())
    raw[123] = code
    path.write_bytes(raw)
    np.testing.assert_allclose(read_image([path]).affine, AFFINE_MM, atol=1e-6)
    write_label(tmp_path / "y.nii", np.ones(SHAPE, np.uint8), AFFINE_MM, path)
    assert nibabel.load(tmp_path / "y.nii").header["xyzt_units"] == code


@pytest.mark.parametrize("unit", PER_MM)
def test_what_is_written_over_a_nifti_lies_on_it_in_every_viewer(tmp_path: Path, unit: str) -> None:
    source = save_nifti(tmp_path / "x.nii.gz", unit, np.arange(60, dtype=np.int16).reshape(SHAPE))
    volume = read_image([source])
    write_label(tmp_path / "label.nii.gz", np.ones(SHAPE, np.uint8), volume.affine, source)
    write_image(tmp_path / "image.nii", volume.array, volume.affine, None, source)
    wanted = nibabel.load(source)
    for name in ("label.nii.gz", "image.nii"):
        found = nibabel.load(tmp_path / name)
        for field in ("xyzt_units", "pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "sform_code"):
            np.testing.assert_array_equal(found.header[field], wanted.header[field])
        np.testing.assert_array_equal(read_image([tmp_path / name]).affine, volume.affine)


def test_a_part_of_a_volume_is_written_in_the_units_of_its_template(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "x.nii", "micron")
    moved = AFFINE_MM.copy()
    moved[:3, 3] += 1.0
    write_label(tmp_path / "y.nii", np.ones((2, 2, 2), np.uint8), moved, source)
    np.testing.assert_allclose(nibabel.load(tmp_path / "y.nii").affine[:3], 1e3 * moved[:3], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(read_image([tmp_path / "y.nii"]).affine, moved, atol=1e-6)


def test_an_axis_too_long_for_nifti_1_is_written_as_nifti_2(tmp_path: Path) -> None:
    label = np.zeros((33_000, 1, 2), np.uint8)
    label[32_999, 0, 1] = 3
    write_label(tmp_path / "x.nii.gz", label, np.diag([0.1, 1, 2, 1]))
    write_label(tmp_path / "y.nii.gz", label, np.diag([0.1, 1, 2, 1]), tmp_path / "x.nii.gz")
    for name in ("x.nii.gz", "y.nii.gz"):
        assert isinstance(nibabel.load(tmp_path / name), nibabel.Nifti2Image)
        np.testing.assert_array_equal(read_label(tmp_path / name).array, label)
        np.testing.assert_allclose(read_header(tmp_path / name).affine, np.diag([0.1, 1, 2, 1]), rtol=1e-7)


def write_nrrd(path: Path, geometry: str, sizes: str = "5 4 3") -> Path:
    dimension = len(sizes.split())
    count = int(np.prod([int(size) for size in sizes.split()]))
    header = f"NRRD0004\ntype: uchar\ndimension: {dimension}\n{geometry}sizes: {sizes}\nencoding: raw\n\n"
    path.write_bytes(header.encode() + bytes(range(1, count + 1)))
    return path


def write_mha(path: Path, geometry: str) -> Path:
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 10 20 30\n"
    )
    path.write_bytes(f"{header}{geometry}DimSize = 5 4 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n".encode())
    with path.open("ab") as file:
        file.write(bytes(60))
    return path


DIRECTIONS = "space: RAS\nspace directions: (25,0,0) (0,25,0) (0,0,50)\nspace origin: (10,20,30)\n"
SPACINGS = "spacings: 25 25 50\n"


@pytest.mark.parametrize(
    ("geometry", "per_mm"),
    [
        (DIRECTIONS + 'space units: "um" "um" "um"\n', (1e3, 1e3, 1e3)),
        (DIRECTIONS + 'space units: "\N{MICRO SIGN}m" "microns" "Micrometers"\n', (1e3, 1e3, 1e3)),
        (DIRECTIONS + 'space units: "mm" "cm" "m"\n', (1, 0.1, 1e-3)),
        (DIRECTIONS + 'space units: "pixel" "" "mm"\n', (1, 1, 1)),
        (DIRECTIONS, (1, 1, 1)),
        (SPACINGS + 'units: "um" "um" "um"\n', (1e3, 1e3, 1e3)),
        (SPACINGS, (1, 1, 1)),
    ],
)
def test_a_nrrd_affine_is_in_mm(tmp_path: Path, geometry: str, per_mm: tuple[float, float, float]) -> None:
    path = write_nrrd(tmp_path / "x.nrrd", geometry)
    spacing = np.array([25, 25, 50]) / per_mm
    for found in (read_header(path).affine, read_image([path]).affine):
        np.testing.assert_allclose(np.linalg.norm(found[:3, :3], axis=0), spacing)
        if geometry.startswith(DIRECTIONS):
            np.testing.assert_allclose(found[:3, 3], np.array([10, 20, 30]) / per_mm)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_what_is_written_over_an_itk_file_has_its_units(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"x{suffix}"
    if suffix == ".nrrd":
        write_nrrd(source, DIRECTIONS + 'space units: "um" "um" "um"\n')
    else:
        write_mha(source, "DistanceUnits = um\nElementSpacing = 25 25 50\n")
    volume = read_image([source])
    np.testing.assert_allclose(volume.spacing, (0.025, 0.025, 0.05))
    write_label(tmp_path / f"label{suffix}", np.ones(SHAPE, np.uint8), volume.affine, source)
    np.testing.assert_allclose(read_image([tmp_path / f"label{suffix}"]).affine, volume.affine, rtol=1e-12)
    wanted, found = (SimpleITK.ReadImage(str(tmp_path / f"{name}{suffix}")) for name in ("x", "label"))
    np.testing.assert_allclose(found.GetSpacing(), wanted.GetSpacing())
    np.testing.assert_allclose(found.GetOrigin(), wanted.GetOrigin())
    assert not list(tmp_path.glob("*units*"))


@pytest.mark.parametrize("sizes", ["0 1 1", "-1 1 1", "nan 1 1", "inf 1 1"])
@pytest.mark.parametrize("qform", [0, 1])
def test_a_nifti_without_a_voxel_size_is_refused_by_name(tmp_path: Path, sizes: str, qform: int) -> None:
    path = save_nifti(tmp_path / "x.nii.gz", "mm", qform=qform, sform=0)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[80:92] = np.array([float(size) for size in sizes.split()], "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))
    for read in (read_header, lambda path: read_image([path])):
        with pytest.raises(ValueError, match=r"x\.nii\.gz.*voxel size is not known"):
            read(path)


def test_the_sform_states_the_size_where_pixdim_is_0(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "x.nii", "micron", qform=0)
    raw = bytearray(path.read_bytes())
    raw[80:92] = bytes(12)
    path.write_bytes(raw)
    np.testing.assert_allclose(read_image([path]).affine, AFFINE_MM, atol=1e-6)


def test_the_library_does_not_speak_of_files_that_it_does_not_name(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "x.nii", "micron", qform=0)
    raw = bytearray(path.read_bytes())
    raw[80:92] = bytes(12)
    path.write_bytes(raw)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("nibabel.global")
    logger.addHandler(handler)
    try:
        for read in (read_header, lambda path: read_image([path])):
            read(path)
        assert said == []
        nibabel.load(path)  # what others do with nibabel stays as it was
        assert said == ["pixdim[1,2,3] should be non-zero; setting 0 dims to 1"]
    finally:
        logger.removeHandler(handler)


def test_a_2d_nifti_needs_no_third_size(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((5, 4), np.uint8), None)
    image.header["pixdim"][1:4] = (0.5, 0.5, 0)
    nibabel.save(image, tmp_path / "x.nii")
    assert read_image([tmp_path / "x.nii"]).spacing[:2] == (0.5, 0.5)


@pytest.mark.parametrize(
    "geometry", ["", "ElementSpacing = 0 1 1\n", "ElementSpacing = -1 1 1\n", "ElementSpacing = nan 1 1\n"]
)
def test_a_mha_without_a_voxel_size_is_refused_by_name(tmp_path: Path, geometry: str) -> None:
    path = write_mha(tmp_path / "x.mha", geometry)
    for read in (read_header, lambda path: read_image([path])):
        with pytest.raises(ValueError, match=r"x\.mha.*voxel size is not known"):
            read(path)


@pytest.mark.parametrize(
    "geometry", ["", "spacings: nan 1 1\n", "spacings: -1 1 1\n", "space: LPS\nspace origin: (1,2,3)\n"]
)
def test_a_nrrd_without_a_voxel_size_is_refused_by_name(tmp_path: Path, geometry: str) -> None:
    path = write_nrrd(tmp_path / "x.nrrd", geometry)
    for read in (read_header, lambda path: read_image([path])):
        with pytest.raises(ValueError, match=r"x\.nrrd.*voxel size is not known"):
            read(path)


def test_the_parts_of_a_voxel_need_no_size(tmp_path: Path) -> None:
    geometry = 'kinds: vector domain domain domain\nspacings: nan 2 2 2\nunits: "" "um" "um" "um"\n'
    path = write_nrrd(tmp_path / "x.nrrd", geometry, "2 4 3 2")
    np.testing.assert_allclose(read_image([path]).spacing, (0.002, 0.002, 0.002))


def with_more(path: Path, how: str) -> Path:
    packed = path.read_bytes()
    if how == "after gzip":
        path.write_bytes(packed + b"\r\nmade by a mail program")
    elif how == "within gzip":
        path.write_bytes(gzip.compress(gzip.decompress(packed) + bytes(7)))
    elif how == "second stream":
        path.write_bytes(packed + gzip.compress(bytes(7)))
    else:
        path.write_bytes(packed + bytes(7))
    return path


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("x.nii.gz", "after gzip", "has bytes after its gzip stream"),
        ("x.nii.gz", "within gzip", "has 7 bytes after its voxels"),
        ("x.nii.gz", "second stream", "has 7 bytes after its voxels"),
        ("x.nii", "plain", "has 7 bytes after its voxels"),
    ],
)
def test_what_follows_the_voxels_is_a_warning_that_names_the_file(
    tmp_path: Path, name: str, how: str, message: str
) -> None:
    array = np.arange(2400, dtype=np.int16).reshape(20, 15, 8)
    path = with_more(save_nifti(tmp_path / name, "mm", array), how)
    read_header(path)
    with pytest.warns(UserWarning, match=rf"{name} {message}"):
        volume = read_image([path])
    np.testing.assert_array_equal(volume.array[0], array)


def test_a_damaged_stream_is_still_an_error(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "x.nii.gz", "mm", np.arange(60, dtype=np.int16).reshape(SHAPE))
    packed = bytearray(path.read_bytes())
    packed[-6] ^= 1
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=r"x\.nii\.gz is truncated"):
        read_image([path])
    path.write_bytes(b"no gzip at all, but long enough to be read as one")
    with pytest.raises(ValueError, match=r"x\.nii\.gz is truncated"):
        read_image([path])
