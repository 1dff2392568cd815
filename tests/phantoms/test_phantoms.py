from __future__ import annotations

import json
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from voxward.data.check import check_dataset
from voxward.data.formats import open_dataset
from voxward.data.io import read_image
from voxward.phantoms.organ import LABELS, MODALITIES, make_organ_phantom
from voxward.phantoms.write import write_phantoms

SEEDS = range(12)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_seed_gives_one_phantom(modality: str) -> None:
    first, again, other = (make_organ_phantom(seed, modality, 32) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.array, b.array)
        np.testing.assert_array_equal(a.affine, b.affine)
    assert first[0].array.shape != other[0].array.shape or (first[0].array != other[0].array).any()


@pytest.mark.parametrize("size", [16, 33, 48])
def test_every_organ_is_there_and_in_one_piece(size: int) -> None:
    for seed in SEEDS:
        image, label = make_organ_phantom(seed, size=size)
        assert image.array.dtype == np.int16
        assert image.shape == label.shape
        assert set(np.unique(label.array)) == {0, 1, 2, 3}
        assert ndimage.label(label.array == 2, np.ones((3, 3, 3)))[1] == 1
        assert ndimage.label(label.array % 2, np.ones((3, 3, 3)))[1] == 1  # organ a with the lesion in it


def test_a_lesion_lies_in_organ_a_and_may_be_absent() -> None:
    for seed in SEEDS:
        label, without = make_organ_phantom(seed)[1].array, make_organ_phantom(seed, lesion=False)[1].array
        assert 3 not in without
        np.testing.assert_array_equal(np.where(label == 3, 1, label), without)
        assert 0 < (label == 3).sum() < 0.5 * (without == 1).sum()


def test_geometry_varies_as_in_a_clinic() -> None:
    volumes = [make_organ_phantom(seed)[0] for seed in range(24)]
    oblique = [not np.allclose(np.sort(np.abs(v.affine[:3, :3]).ravel())[:6], 0) for v in volumes]
    assert 0 < sum(oblique) < 24
    assert len({v.shape for v in volumes}) > 12
    assert any(n % 2 for v in volumes for n in v.shape)
    for v in volumes:
        assert v.spacing[2] / v.spacing[0] > 1.2
    assert len({nibabel.aff2axcodes(v.affine) for v in volumes}) == 4


def test_anatomy_does_not_depend_on_voxel_order() -> None:
    """Organ a lies on the right, organ b on the left and behind it, whatever the affine."""
    for seed in SEEDS:
        label = make_organ_phantom(seed)[1]
        a, b = (label.affine[:3] @ (*np.argwhere(label.array == n).mean(axis=0), 1) for n in (1, 2))
        assert a[0] > 20
        assert b[0] < -20
        assert b[1] < a[1]


def test_mr_has_no_unit_and_ct_has() -> None:
    middles = [np.median(image.array[0][label.array == 1]) for image, label in map(make_organ_phantom, SEEDS)]
    assert max(middles) > 3 * min(middles)
    for seed in SEEDS:
        image, label = make_organ_phantom(seed, "ct")
        assert 70 < np.median(image.array[0][label.array == 1]) < 160
        assert -1040 < np.median(image.array[0][0, 0]) < -960


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("organ", [1, 2, 3])
def test_no_interval_of_intensities_solves_it(modality: str, organ: int) -> None:
    """Even the best two thresholds, chosen per case with the truth in hand, stay far from a segmentation."""
    best = []
    for seed in range(6):
        image, label = make_organ_phantom(seed, modality)
        truth = label.array == organ
        edges = np.percentile(image.array[0][truth], np.linspace(0, 100, 15))
        masks = [(image.array[0] >= low) & (image.array[0] <= high) for low in edges for high in edges if high > low]
        best.append(max(2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for mask in masks))
    assert np.mean(best) < 0.75


def test_a_case_is_made_quickly() -> None:
    make_organ_phantom(0)
    start = time.perf_counter()
    for seed in range(3):
        make_organ_phantom(seed)
    assert (time.perf_counter() - start) / 3 < 0.3


@pytest.mark.parametrize(("modality", "channel"), [("mr", "MRI"), ("ct", "CT")])
def test_the_folder_is_a_sound_dataset(tmp_path: Path, modality: str, channel: str) -> None:
    write_phantoms(tmp_path / "p", cases=5, seed=1, modality=modality, size=24)
    dataset = open_dataset(tmp_path / "p")
    report = check_dataset(dataset)
    assert (report.problems, report.cases) == ((), 5)
    assert dataset.channels == (channel,)
    assert dataset.labels.names == LABELS
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    description = json.loads((tmp_path / "p/dataset.json").read_text())
    assert (description["numTraining"], description["tensorImageSize"]) == (5, "3D")
    lesions = [3 in np.asarray(nibabel.load(case.label).dataobj) for case in dataset.cases if case.label]
    assert lesions == [True, True, True, False, True]


def test_folders_repeat_by_seed_and_never_overwrite(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_phantoms(tmp_path / name, cases=1, seed=seed, size=16)
    a, b, c = (read_image([tmp_path / name / "imagesTr/phantom_000.nii.gz"]).array for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert a.shape != c.shape or (a != c).any()
    with pytest.raises(FileExistsError, match="not empty"):
        write_phantoms(tmp_path / "a", cases=1, size=16)


def test_monai_reads_the_description(tmp_path: Path) -> None:
    from monai.data import load_decathlon_datalist

    write_phantoms(tmp_path / "p", cases=2, size=16)
    listed = load_decathlon_datalist(str(tmp_path / "p/dataset.json"), is_segmentation=True, data_list_key="training")
    assert all(Path(entry[part]).is_file() for entry in listed for part in ("image", "label"))
    assert len(listed) == 2


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 16"):
        make_organ_phantom(0, size=8)
    with pytest.raises(ValueError, match="cases"):
        write_phantoms(tmp_path / "p", cases=0)
    assert list(tmp_path.iterdir()) == []
