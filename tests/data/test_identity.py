"""An image is recognised by its voxels, however it is stored."""

import nibabel as nib
import numpy as np
import pytest

from voxward.core.case import Case, Volume
from voxward.data.identity import (
    FEW_VALUES,
    KnownImages,
    identity_of,
    read_identity,
    same_image,
    unchanged,
    without_common,
)

AFFINE = np.array([[-1.5, 0, 0, 40], [0, 2, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1.0]])


def scan(seed=0, shape=(12, 10, 7), channels=1):
    return np.random.default_rng(seed).normal(100, 20, (channels, *shape)).astype(np.float32)


def turned(array, affine, axes, flips):
    """The same image in another order of the axes, with its affine: written out with index vectors."""
    moved = array.transpose(0, *(1 + axis for axis in axes))
    matrix = affine[:, [*axes, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            moved = np.flip(moved, 1 + axis)
            matrix[:3, 3] += matrix[:3, axis] * (moved.shape[1 + axis] - 1)
            matrix[:3, axis] *= -1
    return Volume(moved, matrix)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
def test_the_order_of_the_axes_does_not_matter(axes, flips):
    array = scan()
    other = identity_of(turned(array, AFFINE, axes, flips))
    assert same_image(identity_of(Volume(array, AFFINE)), other)
    assert unchanged(identity_of(Volume(array, AFFINE)), other)


def test_a_lost_orientation_does_not_matter():
    array = scan()
    lost = identity_of(Volume(np.flip(array, 2), np.eye(4)))
    assert same_image(identity_of(Volume(array, AFFINE)), lost)
    assert not unchanged(identity_of(Volume(array, AFFINE)), lost)
    assert same_image(identity_of(Volume(array, AFFINE)), identity_of(Volume(array, np.zeros((4, 4)))))


@pytest.mark.parametrize("name", ["a.nii", "b.nii.gz", "c.nrrd", "d.mha"])
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_file_and_number_type_do_not_matter(tmp_path, name, kind):
    whole = np.random.default_rng(1).integers(-1000, 1000, (9, 8, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(whole, AFFINE), tmp_path / "source.nii.gz")
    first = read_identity(Case("x", (tmp_path / "source.nii.gz",)))
    if name.endswith(("nii", "gz")):
        nib.save(nib.Nifti1Image(whole.astype(kind), AFFINE), tmp_path / name)
    else:
        itk = pytest.importorskip("SimpleITK")
        image = itk.GetImageFromArray(whole.astype(kind).transpose(2, 1, 0))
        image.SetSpacing((1.5, 2.0, 3.0))
        itk.WriteImage(image, str(tmp_path / name))
    assert same_image(first, read_identity(Case("y", (tmp_path / name,))))


def test_rounding_to_another_integer_scaling_does_not_matter(tmp_path):
    """nibabel stores floats in a header of int16 with a scaling of its own, which rounds every voxel."""
    whole = np.random.default_rng(2).integers(-1000, 3000, (9, 8, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(whole, AFFINE), tmp_path / "a.nii.gz")
    read = nib.load(tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(read.get_fdata() + 0.3, read.affine, read.header), tmp_path / "b.nii.gz")
    one, other = (read_identity(Case("x", (tmp_path / name,))) for name in ("a.nii.gz", "b.nii.gz"))
    assert one.channels[0].digest != other.channels[0].digest
    assert same_image(one, other)
    assert not unchanged(one, other)


def test_other_images_are_other_images():
    one = identity_of(Volume(scan(0), AFFINE))
    assert not same_image(one, identity_of(Volume(scan(1), AFFINE)))
    noisy = scan(0) + np.random.default_rng(5).normal(0, 20, (1, 12, 10, 7)).astype(np.float32)
    assert not same_image(one, identity_of(Volume(noisy, AFFINE)))
    moved = identity_of(Volume(np.roll(scan(0), 2, axis=1), AFFINE))
    assert not same_image(one, moved)


def test_channels_in_another_order_or_without_the_others_are_the_same_patient():
    one, array = identity_of(Volume(scan(0, channels=3), AFFINE)), scan(0, channels=3)
    assert same_image(one, identity_of(Volume(array[[2, 0, 1]], AFFINE)))
    assert same_image(one, identity_of(Volume(array[[1]], AFFINE)))
    assert not same_image(one, identity_of(Volume(scan(9, channels=3), AFFINE)))


def test_nan_is_zero():
    array = scan()
    array[0, :3] = np.nan
    assert same_image(identity_of(Volume(array, AFFINE)), identity_of(Volume(np.nan_to_num(array), AFFINE)))


def test_masks_and_constants_prove_nothing():
    mask = np.zeros((1, 12, 10, 7), np.float32)
    mask[:, 3:6, 2:8] = 1
    one, other = (identity_of(Volume(np.concatenate([scan(seed), mask]), AFFINE)) for seed in (0, 1))
    assert not same_image(one, other)
    blank = identity_of(Volume(np.zeros((1, 12, 10, 7)), AFFINE))
    assert not same_image(blank, blank)
    alone = identity_of(Volume(mask, AFFINE))
    assert same_image(alone, alone)  # there is nothing else to go by
    few = np.arange(12 * 10 * 7).reshape(1, 12, 10, 7) % FEW_VALUES
    assert not identity_of(Volume(few, AFFINE)).telling
    assert identity_of(Volume(few + (few == 0) * np.linspace(0, 1, 7), AFFINE)).telling


def test_a_channel_that_patients_share_proves_nothing():
    atlas = scan(50)
    known = [identity_of(Volume(np.concatenate([scan(seed), atlas]), AFFINE)) for seed in (0, 1)]
    images = KnownImages(zip(("a", "b"), known, strict=True))
    assert images.find(identity_of(Volume(np.concatenate([scan(2), atlas]), AFFINE))) is None
    assert images.find(identity_of(Volume(np.concatenate([scan(1), atlas]), AFFINE))) == "b"
    # The same patient twice is not such a channel.
    assert without_common([known[0], known[0]]) == [known[0], known[0]]


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (30, 20, 1), (2, 2, 2)])
def test_any_shape_has_an_identity(shape):
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(1, *shape)
    assert identity_of(Volume(array, AFFINE)) == identity_of(Volume(array.astype(np.float64), AFFINE))


def test_voxels_are_read_only_where_a_shape_fits(tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(scan()[0], AFFINE), tmp_path / "a.nii.gz")
    images = KnownImages([("x", identity_of(Volume(scan(shape=(3, 4, 5)), AFFINE)))])
    monkeypatch.setattr("voxward.data.identity.read_image", None)
    assert images.find_case(Case("a", (tmp_path / "a.nii.gz",))) is None
