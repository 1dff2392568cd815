from __future__ import annotations

import json
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from voxward.core.case import Volume
from voxward.data.check import check_dataset
from voxward.data.formats import open_dataset
from voxward.data.io import read_image
from voxward.phantoms.abdomen import make_abdomen_phantom
from voxward.phantoms.write import write_phantoms

SEEDS = range(8)
TOUCHING = np.ones((3, 3, 3))


def _centre(label: Volume) -> np.ndarray:
    """The middle of the foreground in mm."""
    centre: np.ndarray = label.affine[:3] @ (*np.argwhere(label.array > 0).mean(axis=0), 1)
    return centre


def test_a_seed_gives_one_phantom() -> None:
    first, again, other = (make_abdomen_phantom(seed, 64, True) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.array, b.array)
        np.testing.assert_array_equal(a.affine, b.affine)
    assert (first[0].array != other[0].array).any()


@pytest.mark.parametrize(("size", "shape"), [(64, (64, 64, 38)), (100, (100, 100, 48)), (160, (160, 160, 60))])
def test_a_whole_abdomen_with_thick_slices(size: int, shape: tuple[int, ...]) -> None:
    image, label = make_abdomen_phantom(3, size)
    assert image.array.shape == (1, *shape)
    assert image.array.dtype == np.int16
    assert label.array.shape == shape
    assert label.array.dtype == np.uint8
    np.testing.assert_array_equal(image.affine, label.affine)
    extent = np.array(image.spacing) * shape
    np.testing.assert_allclose(extent, (410, 410, 270), rtol=0.04)
    assert image.spacing[2] > image.spacing[0]


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("cysts", [False, True])
def test_the_organ_is_small_and_in_one_piece(size: int, cysts: bool) -> None:
    for seed in SEEDS:
        label = make_abdomen_phantom(seed, size, cysts)[1].array
        assert set(np.unique(label)) == ({0, 1, 2} if cysts else {0, 1})
        assert 0 < (label > 0).mean() < 0.005
        assert ndimage.label(label > 0, TOUCHING)[1] == 1
        assert (label == 2).sum() < 0.7 * (label > 0).sum()


def test_the_organ_is_irregular() -> None:
    """It fills little of its own bounding box: a ball fills 52 %."""
    for seed in SEEDS:
        label = make_abdomen_phantom(seed, 128)[1].array
        (box,) = ndimage.find_objects(label)
        assert (label[box] == 1).mean() < 0.25


def test_cysts_lie_in_the_organ_and_change_nothing_else_of_it() -> None:
    for seed in SEEDS:
        (image, label), (plain, without) = (make_abdomen_phantom(seed, 96, cysts) for cysts in (True, False))
        np.testing.assert_array_equal(label.array > 0, without.array > 0)
        changed = np.abs(image.array[0].astype(int) - plain.array[0]) > 5
        assert changed[label.array == 2].mean() > 0.8
        assert changed.mean() < 0.005


def test_intensities_are_hounsfield_units() -> None:
    for seed in SEEDS:
        image, label = make_abdomen_phantom(seed, 128, cysts=True)
        hu = image.array[0]
        assert abs(np.median(hu[:8, :8]) + 1000) < 10
        inner = hu[hu > -500]
        assert abs(np.median(inner[inner < -40]) + 100) < 10  # fat, the larger part of the body
        assert abs(np.median(hu[ndimage.binary_erosion(hu > 300, iterations=2)]) - 400) < 10
        organ = ndimage.binary_erosion(label.array == 1)
        assert 25 < np.median(hu[organ]) < 55
        assert 7 < hu[:4].std() < 19
        assert np.median(hu[label.array == 2]) < np.median(hu[organ]) - 8


def test_no_interval_of_intensities_solves_it() -> None:
    """Even the best two thresholds, chosen per case with the truth in hand, find ten times as much as the organ."""
    for seed in SEEDS:
        image, label = make_abdomen_phantom(seed, 128)
        truth = label.array == 1
        edges = np.percentile(image.array[0][truth], np.linspace(0, 100, 11))
        masks = [(image.array[0] >= low) & (image.array[0] <= high) for low in edges for high in edges if high > low]
        assert max(2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for mask in masks) < 0.2


def test_look_alikes_are_as_bright_as_the_organ_and_elsewhere() -> None:
    """Smoothed, within 15 HU of the organ, and not the rim of anything: in the whole scan, and among the bowel."""
    for seed in SEEDS:
        image, label = make_abdomen_phantom(seed, 128)
        truth, smooth = label.array == 1, ndimage.gaussian_filter(image.array[0].astype(float), 0.7)
        level = np.median(smooth[ndimage.binary_erosion(truth)])
        alike = ndimage.binary_erosion(np.abs(smooth - level) < 15)
        assert (alike & ~truth).sum() > 10 * (alike & truth).sum()
        x, y, z = (label.affine[n, n] * np.arange(label.shape[n]) + label.affine[n, 3] for n in range(3))
        bowel = (np.abs(x) < 90)[:, None, None] & (np.abs(y) < 60)[:, None] & (z < -50)
        assert (alike & bowel).sum() > 2 * (alike & truth).sum()


def test_subjects_differ_in_place_and_scans_in_voxel_order() -> None:
    labels = [make_abdomen_phantom(seed, 64)[1] for seed in range(16)]
    assert {nibabel.aff2axcodes(label.affine)[:2] for label in labels} == {
        ("R", "A"), ("R", "P"), ("L", "A"), ("L", "P")
    }  # fmt: skip
    centres = np.array([_centre(label) for label in labels])
    assert (np.ptp(centres, axis=0) > 10).all()
    assert (np.abs(centres) < 45).all()
    # The head of the organ lies on the right, its tail on the left, whatever the affine.
    for label in labels:
        places = np.argwhere(label.array > 0) @ label.affine[:3, :3].T + label.affine[:3, 3]
        assert np.corrcoef(places[:, 0], places[:, 2])[0, 1] < -0.5


def test_the_subject_does_not_depend_on_the_size() -> None:
    for seed in SEEDS:
        small, large = (make_abdomen_phantom(seed, size)[1] for size in (64, 160))
        assert np.abs(_centre(small) - _centre(large)).max() < 4
        volumes = [(label.array > 0).sum() * np.prod(label.spacing) for label in (small, large)]
        assert abs(volumes[0] / volumes[1] - 1) < 0.15


def test_a_case_is_made_quickly() -> None:
    make_abdomen_phantom(0, 64)
    start = time.perf_counter()
    make_abdomen_phantom(1, 128)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("cysts", [False, True])
def test_the_folder_is_a_sound_dataset(tmp_path: Path, cysts: bool) -> None:
    write_phantoms(tmp_path / "p", cases=3, seed=1, kind="abdomen", size=64, cysts=cysts)
    dataset = open_dataset(tmp_path / "p")
    report = check_dataset(dataset)
    assert (report.problems, report.cases) == ((), 3)
    assert dataset.channels == ("CT",)
    assert dataset.labels.names == (("background", "organ", "cyst") if cysts else ("background", "organ"))
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert json.loads((tmp_path / "p/dataset.json").read_text())["numTraining"] == 3


def test_folders_repeat_by_seed_and_never_overwrite(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_phantoms(tmp_path / name, cases=1, seed=seed, kind="abdomen", size=64)
    a, b, c = (read_image([tmp_path / name / "imagesTr/abdomen_000.nii.gz"]).array for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    with pytest.raises(FileExistsError, match="not empty"):
        write_phantoms(tmp_path / "a", cases=1, kind="abdomen", size=64)


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    for size in (63, 513):
        with pytest.raises(ValueError, match=f"size must be 64 to 512 voxels, got {size}"):
            make_abdomen_phantom(0, size)
    with pytest.raises(ValueError, match="cases"):
        write_phantoms(tmp_path / "p", cases=0, kind="abdomen")
    assert list(tmp_path.iterdir()) == []
