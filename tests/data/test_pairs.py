"""NIfTI pairs, against nibabel and SimpleITK, and Analyze 7.5, which is refused."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

import voxward
from voxward.core.errors import UserError
from voxward.data.formats import open_dataset
from voxward.data.io import read_header, read_image, read_label, write_image, write_label
from voxward.systems.predict import collect_inputs

ARRAY = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
AFFINE = np.array([[-1.5, 0, 0.1, 7], [0, 1, 0, -3], [0.1, 0, 2, 11], [0, 0, 0, 1]])


def pair(folder: Path, name: str = "a", kind=nibabel.Nifti1Pair, array: np.ndarray = ARRAY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(kind(array, AFFINE), folder / f"{name}.hdr")
    return folder / f"{name}.hdr"


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
def test_a_pair_is_one_volume_under_either_name(tmp_path: Path, kind) -> None:
    path = pair(tmp_path, kind=kind)
    for name in (path, path.with_suffix(".img")):
        volume = read_image([name])
        np.testing.assert_array_equal(volume.array[0], ARRAY)
        assert volume.array.dtype == np.int16
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
        assert read_header(name).shape == ARRAY.shape
        np.testing.assert_array_equal(read_label(name).array, ARRAY)


def test_simpleitk_writes_pairs_that_lie_where_it_says(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(ARRAY)
    image.SetSpacing((1.5, 2, 3))
    image.SetOrigin((4, 5, 6))
    SimpleITK.WriteImage(image, str(tmp_path / "a.img"))
    SimpleITK.WriteImage(image, str(tmp_path / "b.mha"))
    one, other = (read_image([tmp_path / name]) for name in ("a.hdr", "b.mha"))
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)


@pytest.mark.parametrize("gone", ["a.hdr", "a.img"])
def test_a_missing_partner_is_named(tmp_path: Path, gone: str) -> None:
    path = pair(tmp_path)
    (tmp_path / gone).unlink()
    left = path if gone == "a.img" else path.with_suffix(".img")
    for read in (read_header, read_label):
        with pytest.raises(UserError, match=rf"{left.name}: {gone} is not there"):
            read(left)


def test_analyze_is_refused_because_nobody_knows_its_left(tmp_path: Path) -> None:
    path = pair(tmp_path, kind=nibabel.AnalyzeImage)
    for name in (path, path.with_suffix(".img")):
        with pytest.raises(UserError, match=r"Analyze 7\.5 file, which does not say where left and right are: convert"):
            read_image([name])
    pair(tmp_path, kind=nibabel.Spm99AnalyzeImage)
    with pytest.raises(UserError, match=r"Analyze 7\.5"):
        read_header(path)


def test_a_pair_that_claims_too_much_or_is_cut(tmp_path: Path) -> None:
    path = pair(tmp_path)
    voxels = path.with_suffix(".img")
    voxels.write_bytes(voxels.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"a\.hdr.*the header claims 48 bytes, and the file holds at most 47"):
        read_image([path])
    path.write_text("ENVI\nsamples = 3\n")
    with pytest.raises(UserError, match=r"a\.hdr is not the header of a NIfTI pair"):
        read_image([path])


def test_a_folder_of_pairs_is_a_dataset_and_its_masks_are_single_files(tmp_path: Path) -> None:
    for n in range(2):
        pair(tmp_path / "images", f"c{n}", array=np.random.default_rng(n).normal(size=(9, 9, 9)).astype("f4"))
        pair(tmp_path / "labels", f"c{n}", array=(np.indices((9, 9, 9)).sum(0) > 12).astype("u1"))
    dataset = open_dataset(tmp_path)
    assert [(case.id, case.images[0].name, case.label.name) for case in dataset.cases] == [
        ("c0", "c0.hdr", "c0.hdr"), ("c1", "c1.hdr", "c1.hdr"),
    ]  # fmt: skip
    assert [each for each in voxward.check(tmp_path).problems if each.severity == "error"] == []
    both = sorted((tmp_path / "images").glob("c0.*"))
    (case,) = collect_inputs(both, ["channel 0"])
    assert (case.id, case.images) == ("c0", (tmp_path / "images" / "c0.hdr",))
    path = tmp_path / "c0.nii.gz"
    write_label(path, np.ones((9, 9, 9), int), AFFINE, both[0])
    source, header = (nibabel.load(name).header for name in (both[0], path))
    for field in ("qform_code", "sform_code", "srow_x", "quatern_b", "xyzt_units"):
        np.testing.assert_array_equal(header[field], source[field])
    with pytest.raises(UserError, match=r"pairs of files are only read; write a \.nii\.gz file"):
        write_image(tmp_path / "d.hdr", ARRAY, AFFINE)
    # Alone, the second file of a pair is a case that cannot be read, and not none at all.
    both[0].unlink()
    assert [each.kind for each in voxward.check(tmp_path).problems if each.severity == "error"] != []
