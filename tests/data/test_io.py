from __future__ import annotations

import gzip
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from voxward.core.case import Scaling
from voxward.core.errors import UserError
from voxward.data.io import read_header, read_image, read_label, volume_stem, write_image, write_label
from voxward.data.volume_file import naming_the_file

ALL = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


@pytest.fixture
def oblique() -> np.ndarray:
    a, b = np.cos(0.3), np.sin(0.3)
    turn = np.array([[a, -b, 0], [b, a, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.7, 1.3, 4.0])
    affine[:3, 3] = 12.5, -7.0, 100.25
    return affine


def random_image(*shape: int, kind: type = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(kind)


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_was_written_is_read(tmp_path: Path, oblique: np.ndarray, suffix: str, channels: int) -> None:
    array, path = random_image(channels, 5, 6, 7), tmp_path / f"case_1.x{suffix}"
    write_image(path, array, oblique)
    volume, header = read_image([path]), read_header(path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.affine, oblique, atol=1e-5)
    np.testing.assert_allclose(header.affine, oblique, atol=1e-5)
    assert (header.shape, header.channels, header.dimensions) == (
        (5, 6, 7),
        channels,
        3 if channels == 1 else header.dimensions,
    )
    assert volume_stem(path) == "case_1.x"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_names_may_be_texts(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    write_image(path, np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4), np.eye(4))
    assert np.array_equal(read_image([str(path)]).array, read_image([path]).array)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_files_lie_where_itk_says(tmp_path: Path, suffix: str) -> None:
    """Oracle: SimpleITK's own index -> physical point, with the x and y of LPS turned to RAS."""
    image = SimpleITK.GetImageFromArray(random_image(4, 5, 6))  # k, j, i
    image.SetSpacing((0.5, 2.0, 3.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / f"x{suffix}"))
    volume = read_image([tmp_path / f"x{suffix}"])
    for index in ((0, 0, 0), (5, 3, 1), (2, 4, 3)):
        assert volume.array[(0, *index)] == image[index]
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((volume.affine @ (*index, 1))[:3], (-x, -y, z), atol=1e-9)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_a_label_lies_over_its_template_in_other_software(tmp_path: Path, oblique: np.ndarray, suffix: str) -> None:
    write_image(tmp_path / f"image{suffix}", random_image(6, 5, 4), oblique)
    write_label(tmp_path / f"label{suffix}", np.ones((6, 5, 4), np.uint8), oblique, tmp_path / f"image{suffix}")
    image, label = (SimpleITK.ReadImage(str(tmp_path / f"{name}{suffix}")) for name in ("image", "label"))
    for index in ((0, 0, 0), (5, 4, 3)):
        points = [each.TransformIndexToPhysicalPoint(index) for each in (image, label)]
        np.testing.assert_allclose(*points, atol=1e-4)


def test_a_template_hands_on_qform_sform_codes_and_units(tmp_path: Path, oblique: np.ndarray) -> None:
    template = nibabel.Nifti1Image(random_image(4, 4, 4, 2), None)
    template.set_sform(oblique, code=4)
    template.set_qform(np.diag([0.7, 1.3, 4.0, 1.0]), code=1)  # qform and sform of real files do disagree
    template.header.set_xyzt_units("mm", "sec")
    nibabel.save(template, tmp_path / "image.nii.gz")
    write_label(tmp_path / "out.nii", random_image(4, 4, 4, kind=np.int64), oblique, tmp_path / "image.nii.gz")
    written = nibabel.load(tmp_path / "out.nii")
    for name in ("qform", "sform"):
        wanted, code = getattr(template, f"get_{name}")(coded=True)
        got, got_code = getattr(written, f"get_{name}")(coded=True)
        np.testing.assert_allclose(got, wanted, atol=1e-5)
        assert got_code == code
    assert written.header.get_xyzt_units() == ("mm", "sec")
    assert written.get_data_dtype() == np.uint8
    assert written.shape == (4, 4, 4)


def test_a_label_in_another_place_than_its_template_gets_its_own_geometry(tmp_path: Path, oblique: np.ndarray) -> None:
    write_image(tmp_path / "image.nii", random_image(4, 4, 4), np.eye(4))
    write_label(tmp_path / "out.nii", random_image(3, 4, 5), oblique, tmp_path / "image.nii")
    written = nibabel.load(tmp_path / "out.nii")
    np.testing.assert_allclose(written.get_qform(), oblique, atol=1e-4)
    np.testing.assert_allclose(written.get_sform(), oblique, atol=1e-5)
    assert int(written.header["qform_code"]) > 0
    assert int(written.header["sform_code"]) > 0


@pytest.mark.parametrize(("values", "kind"), [((0, 255), "uint8"), ((0, 300), "int16"), ((-1, 70000), "int32")])
def test_labels_are_written_in_the_smallest_type(tmp_path: Path, values: tuple[int, int], kind: str) -> None:
    label = np.zeros((2, 2, 2), np.int64)
    label[0, 0] = values
    write_label(tmp_path / "x.nii", label, np.eye(4))
    read = read_label(tmp_path / "x.nii").array
    assert read.dtype == kind
    np.testing.assert_array_equal(read, label)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_2d_images_are_volumes_of_one_slice_and_come_back_2d(tmp_path: Path, suffix: str) -> None:
    array, path = random_image(8, 9), tmp_path / f"flat{suffix}"
    if suffix == ".nii.gz":
        nibabel.save(nibabel.Nifti1Image(array, np.diag([0.5, 0.5, 1, 1])), path)
    else:
        image = SimpleITK.GetImageFromArray(array.T)
        image.SetSpacing((0.5, 0.5))
        SimpleITK.WriteImage(image, str(path))
    volume = read_image([path])
    np.testing.assert_array_equal(volume.array, array[None, :, :, None])
    assert volume.spacing == pytest.approx((0.5, 0.5, 1.0))
    write_label(tmp_path / f"out{suffix}", (array > 50)[..., None], volume.affine, path)
    header = read_header(tmp_path / f"out{suffix}")
    assert header.dimensions == 2
    np.testing.assert_allclose(header.affine, volume.affine, atol=1e-6)
    np.testing.assert_array_equal(read_label(tmp_path / f"out{suffix}").array[..., 0], array > 50)


def test_scaled_files_are_float_in_the_scaled_unit(tmp_path: Path) -> None:
    write_image(tmp_path / "x.nii", random_image(3, 4, 5), np.eye(4))
    stored = bytearray((tmp_path / "x.nii").read_bytes())
    stored[112:120] = struct.pack("<ff", 0.5, -10)  # scl_slope and scl_inter of the NIfTI-1 standard
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(bytes(stored)))
    array = read_image([tmp_path / "x.nii.gz"]).array
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[0], random_image(3, 4, 5) * 0.5 - 10)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("kind", "slope", "intercept"), [("int16", 1.0, -1024.0), ("uint8", 0.1, 3.0), ("uint16", -0.5, 70.0)]
)
def test_scaled_integers_are_written_as_they_were_read(tmp_path: Path, kind, slope, intercept, suffix: str) -> None:
    scaling = Scaling(kind, float(np.float32(slope)), intercept)
    whole = np.random.default_rng(0).integers(np.iinfo(kind).min, np.iinfo(kind).max, (2, 3, 4, 5), kind, True)
    write_image(tmp_path / f"x{suffix}", whole, np.eye(4), scaling)
    stored = nibabel.load(tmp_path / f"x{suffix}").dataobj
    assert (stored.slope, stored.inter) == (scaling.slope, intercept)
    np.testing.assert_array_equal(np.moveaxis(stored.get_unscaled(), -1, 0), whole)
    volume = read_image([tmp_path / f"x{suffix}"])
    assert volume.scaling == scaling
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, whole * scaling.slope + intercept, rtol=1e-6, atol=1e-6)
    low, high = scaling.limits
    assert low <= volume.array.min() < volume.array.max() <= high


def test_only_integers_that_can_be_told_have_a_scaling(tmp_path: Path) -> None:
    """Of int32 float32 cannot hold all; nor of int16 beside a large intercept."""
    whole = random_image(3, 4, 5)
    for kind, slope, intercept in (("int32", 0.5, 0.0), ("int16", 1e-3, 1e6)):
        write_image(tmp_path / "x.nii", whole.astype(kind), np.eye(4), Scaling(kind, slope, intercept))
        assert read_image([tmp_path / "x.nii"]).scaling is None
    write_image(tmp_path / "x.nii", whole, np.eye(4))
    assert read_image([tmp_path / "x.nii"]).scaling is None


def test_channels_have_a_scaling_where_they_share_it(tmp_path: Path) -> None:
    whole, half = random_image(3, 4, 5), Scaling("int16", 0.5, -10.0)
    for name, scaling in (("a", half), ("b", half), ("c", Scaling("int16", 0.25, -10.0)), ("d", None)):
        write_image(tmp_path / f"{name}.nii", whole.astype(np.int16), np.eye(4), scaling)
    a, b, c, d = (tmp_path / f"{name}.nii" for name in "abcd")
    assert read_image([a, b]).scaling == half
    assert read_image([a, c]).scaling is read_image([a, d]).scaling is None


@pytest.mark.parametrize(("name", "kind"), [("x.nrrd", "int16"), ("x.nii", "float32"), ("x.nii", "int8")])
def test_what_cannot_be_scaled_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(ValueError, match="scaling needs a NIfTI file and int16"):
        write_image(tmp_path / name, np.zeros((3, 4, 5), kind), np.eye(4), Scaling("int16", 0.5, 0.0))
    assert not list(tmp_path.iterdir())


def test_big_endian_files_become_native(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.save(nibabel.Nifti1Image(random_image(3, 4, 5), np.eye(4), header), tmp_path / "x.nii")
    array = read_image([tmp_path / "x.nii"]).array
    assert array.dtype.isnative
    np.testing.assert_array_equal(array[0], random_image(3, 4, 5))


def test_one_file_per_channel(tmp_path: Path) -> None:
    array = random_image(3, 4, 5, 6)
    paths = [tmp_path / f"x_{n:04d}.nii.gz" for n in range(3)]
    for path, channel in zip(paths, array, strict=True):
        write_image(path, channel, np.eye(4))
    np.testing.assert_array_equal(read_image(paths).array, array)


def test_channels_that_disagree_are_refused_by_name(tmp_path: Path) -> None:
    first, other = tmp_path / "x_0000.nii", tmp_path / "x_0001.nii"
    write_image(first, random_image(4, 5, 6), np.eye(4))
    write_image(other, random_image(4, 5, 7), np.eye(4))
    with pytest.raises(ValueError, match=r"x_0000.*x_0001.*shape"):
        read_image([first, other])
    shifted = np.eye(4)
    shifted[0, 3] = 0.1
    write_image(other, random_image(4, 5, 6), shifted)
    with pytest.raises(ValueError, match=r"x_0000.*x_0001.*affine"):
        read_image([first, other])
    write_image(other, random_image(2, 4, 5, 6), np.eye(4))
    with pytest.raises(ValueError, match=r"x_0001.*2 channels"):
        read_image([first, other])


def test_whole_floats_are_labels_and_fractions_are_not(tmp_path: Path) -> None:
    whole = random_image(4, 5, 6, kind=np.float32)
    write_image(tmp_path / "whole.nii", whole, np.eye(4))
    read = read_label(tmp_path / "whole.nii").array
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, whole)
    for bad in (0.5, np.nan, np.inf):
        whole[1, 2, 3] = bad
        write_image(tmp_path / "bad.nii", whole, np.eye(4))
        with pytest.raises(ValueError, match=r"bad\.nii.*integers"):
            read_label(tmp_path / "bad.nii")


@pytest.mark.parametrize("suffix", ALL[:-1])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut{suffix}"
    write_image(path, random_image(16, 17, 18), np.eye(4))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match="cut"):
        read_image([path])


@pytest.mark.parametrize(("suffix", "place"), [(".nii.gz", -6), (".nii.gz", -30), (".mha", -2), (".mha", -30)])
def test_a_flipped_bit_in_a_compressed_file_is_noticed(tmp_path: Path, suffix: str, place: int) -> None:
    path = tmp_path / f"flip{suffix}"
    write_image(path, random_image(16, 17, 18), np.eye(4))
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 0x10
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="flip"):
        read_image([path])


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"not a volume" * 100))
    with pytest.raises(ValueError, match=r"text\.nii\.gz"):
        read_image([tmp_path / "text.nii.gz"])
    with pytest.raises(ValueError, match=r"legal: \.nii\.gz"):
        read_image([tmp_path / "picture.bmp"])
    with pytest.raises(FileNotFoundError, match="absent"):
        read_image([tmp_path / "absent.nii"])
    with pytest.raises(ValueError, match="at least one"):
        read_image([])


def test_bad_labels_leave_no_file(tmp_path: Path) -> None:
    label = np.zeros((2, 2, 2), np.uint8)
    for bad, affine in ((label.astype(float), np.eye(4)), (label[0], np.eye(4)), (label, np.zeros((4, 4)))):
        with pytest.raises(ValueError, match=r"label must be|singular"):
            write_label(tmp_path / "x.nii.gz", bad, affine)
    with pytest.raises(ValueError, match="int32"):
        write_label(tmp_path / "x.nii.gz", label + np.int64(2**40), np.eye(4))
    with pytest.raises(ValueError, match="float16"):
        write_image(tmp_path / "x.nii.gz", label.astype(np.float16), np.eye(4))
    assert list(tmp_path.iterdir()) == []


def test_several_threads_may_read_one_file(tmp_path: Path) -> None:
    paths = [tmp_path / "x.nii.gz", tmp_path / "x.nrrd"]
    for path in paths:
        write_image(path, random_image(9, 8, 7), np.eye(4))
    with ThreadPoolExecutor(4) as pool:
        for volume in pool.map(lambda n: read_image([paths[n % 2]]), range(16)):
            np.testing.assert_array_equal(volume.array[0], random_image(9, 8, 7))


def test_without_simpleitk_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "x.nrrd", random_image(2, 3, 4), np.eye(4))
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(ImportError, match=r"pip install voxward\[sitk\]"):
        read_image([tmp_path / "x.nrrd"])


@pytest.mark.data
def test_real_nrrd_pairs_lie_over_each_other(data_root: Path) -> None:
    folder = data_root / "pyradiomics_cases"
    for name, shape in (("brain1", (256, 256, 25)), ("brain2", (256, 256, 23)), ("breast1", (45, 120, 21))):
        image, label = read_image([folder / f"{name}_image.nrrd"]), read_label(folder / f"{name}_label.nrrd")
        assert image.shape == label.shape == shape
        np.testing.assert_allclose(image.affine, label.affine, atol=1e-6)
        assert label.array.max() >= 1


@pytest.mark.data
def test_real_geometry_survives_a_prediction(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "SCT_spinalcord" / "t2s.nii.gz"
    image = read_image([source])
    write_label(tmp_path / "out.nii.gz", np.ones(image.shape, np.uint8), image.affine, source)
    before, after = nibabel.load(source), nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(before.affine, after.affine)
    np.testing.assert_array_equal(before.get_qform(), after.get_qform())


def test_too_little_memory_is_no_fault_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.nii").write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.nii: there is too little memory"), naming_the_file(tmp_path / "x.nii"):
        raise MemoryError


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("length", [1, 100, 300, 5000])
def test_a_header_extension_of_any_length_is_passed_over(kind, suffix: str, length: int, tmp_path: Path) -> None:
    image = kind(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * length))
    nibabel.save(image, tmp_path / f"a{suffix}")
    assert np.array_equal(read_image([tmp_path / f"a{suffix}"]).array[0], image.dataobj)
