"""Oracles: numbers counted by hand on built volumes, and the real hippocampus set."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest

from voxward.core.case import Case, Dataset, Volume
from voxward.core.files import write_json
from voxward.core.labels import LabelSet
from voxward.core.plan import Fingerprint, load_json
from voxward.core.structure import to_data
from voxward.data.fingerprint import combine, fingerprint, summarize

LABELS = LabelSet(("background", "organ", "lesion"), (0, 1, 4))
AFFINE = np.diag([2.0, -1.0, 3.0, 1.0])


def make_volumes(seed: int = 0) -> tuple[Volume, Volume]:
    """Non-zero in 10 x 9 x 8 of 12 x 11 x 10 voxels; organ of 64 voxels; a lesion of 3 and, by a corner, 1 voxel."""
    label = np.zeros((12, 11, 10), np.uint8)
    label[2:6, 2:6, 2:6] = 1
    label[8, 5, 3:6] = 4
    label[9, 6, 6] = 4
    label[2, 8, 8] = 4
    image = np.zeros((1, 12, 11, 10), np.float32)
    image[0, 1:11, 1:10, 1:9] = np.random.default_rng(seed).uniform(10, 20, (10, 9, 8))
    return Volume(image, AFFINE), Volume(label, AFFINE)


def test_summary_counts_what_was_built() -> None:
    image, label = make_volumes()
    found = summarize(image, label, LABELS, "a")
    assert found.fingerprint.shape == (10, 9, 8)
    assert found.fingerprint.spacing == (2.0, 1.0, 3.0)
    assert found.fingerprint.voxels == (720 - 64 - 5, 64, 5)
    # A voxel is 6 mm3; the corner neighbour belongs to the object of three.
    assert found.volumes == ((384.0,), (6.0, 24.0))
    assert found.extents == ((8.0, 4.0, 12.0), (16.0, 4.0, 18.0))
    np.testing.assert_array_equal(np.sort(found.sample[0]), np.sort(image.array[0][label.array > 0]).astype(float))


def test_a_volume_that_will_not_be_cropped_is_measured_whole() -> None:
    image, label = make_volumes()
    cropped, whole = (summarize(image, label, LABELS, "a", crop_nonzero) for crop_nonzero in (True, False))
    assert whole.fingerprint.shape == (12, 11, 10)
    assert whole.fingerprint.voxels == (1320 - 64 - 5, 64, 5)
    assert (whole.volumes, whole.extents) == (cropped.volumes, cropped.extents)
    np.testing.assert_array_equal(whole.sample, cropped.sample)


def test_a_summary_takes_a_few_bytes_per_voxel() -> None:
    """The components are 4 of them; 64-bit copies of indices or components would be 8 more."""
    label = np.ones((100, 100, 100), np.uint8)
    image = label[None]
    tracemalloc.start()
    summarize(Volume(image, AFFINE), Volume(label, AFFINE), LABELS, "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 11 * label.size


def test_file_order_changes_nothing() -> None:
    image, label = make_volumes()
    order = (2, 0, 1)
    turned = np.eye(4)
    turned[:3, :3] = AFFINE[:3, :3][:, order]
    found = summarize(
        Volume(image.array.transpose(0, *(n + 1 for n in order)), turned),
        Volume(label.array.transpose(order), turned),
        LABELS,
        "a",
    )
    expected = summarize(image, label, LABELS, "a")
    assert (found.fingerprint, found.volumes, found.extents) == (
        expected.fingerprint,
        expected.volumes,
        expected.extents,
    )


def test_combined_figures() -> None:
    parts = [summarize(*make_volumes(seed), LABELS, str(seed)) for seed in range(3)]
    found = combine("test", ("CT",), LABELS, parts)
    pooled = np.concatenate([part.sample[0] for part in parts])
    low, high = np.percentile(pooled, (0.5, 99.5))
    channel = found.channels[0]
    assert (channel.name, channel.low, channel.high) == ("CT", pytest.approx(low), pytest.approx(high))
    assert channel.mean == pytest.approx(pooled.clip(low, high).mean())
    assert channel.std == pytest.approx(pooled.clip(low, high).std())
    assert found.objects == ((384.0,) * 3, (6.0, 6.0, 6.0, 24.0, 24.0, 24.0))
    # The lesion is the smallest class: 5 voxels in a box of 8 x 4 x 6 voxels.
    assert found.object_size == pytest.approx((8.0, 4.0, 6.0))
    assert found.object_volume == pytest.approx(5.0)


def test_a_class_that_is_nowhere_is_not_the_smallest() -> None:
    image, label = make_volumes()
    part = summarize(image, Volume(np.where(label.array == 4, 0, label.array), AFFINE), LABELS, "a")
    found = combine("test", ("CT",), LABELS, [part])
    assert found.object_volume == pytest.approx(64.0)
    assert found.objects[1] == ()


def test_samples_are_bounded_and_reproducible() -> None:
    image = np.random.default_rng(0).normal(size=(2, 40, 40, 40))
    volumes = Volume(image, AFFINE), Volume(np.ones((40, 40, 40), np.uint8), AFFINE)
    first, second = (summarize(*volumes, LABELS, "a") for _ in range(2))
    assert first.sample.shape == (2, 10_000)
    np.testing.assert_array_equal(first.sample, second.sample)
    assert first.sample[0].mean() == pytest.approx(image[0].mean(), abs=0.05)
    # The channels are sampled at the same voxels.
    places = dict(zip(image[0].ravel(), image[1].ravel(), strict=True))
    assert all(places[a] == b for a, b in first.sample.T[:50])


def test_bad_input_is_refused() -> None:
    image, label = make_volumes()
    with pytest.raises(ValueError, match="its image"):
        summarize(image, Volume(label.array[1:], AFFINE), LABELS, "a")
    moved = AFFINE.copy()
    moved[1, 3] = 5.0
    with pytest.raises(ValueError, match="lies elsewhere"):
        summarize(image, Volume(label.array, moved), LABELS, "a")
    with pytest.raises(ValueError, match=r"spacing \(\(2.0, 1.0, 4.0\) and \(2.0, 1.0, 3.0\) mm\)"):
        summarize(image, Volume(label.array, np.diag([2.0, -1.0, 4.0, 1.0])), LABELS, "a")
    empty = summarize(image, Volume(np.zeros_like(label.array), AFFINE), LABELS, "a")
    with pytest.raises(ValueError, match="holds any foreground"):
        combine("test", ("CT",), LABELS, [empty])
    holed = Volume(np.where(label.array[None] == 1, np.nan, image.array), AFFINE)
    with pytest.raises(ValueError, match="NaN"):
        combine("test", ("CT",), LABELS, [summarize(holed, label, LABELS, "a")])


def make_dataset(root: Path) -> Dataset:
    cases = []
    for n in range(3):
        image, label = make_volumes(n)
        nibabel.save(nibabel.Nifti1Image(image.array[0], AFFINE), root / f"i{n}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label.array, AFFINE), root / f"l{n}.nii.gz")
        cases.append(Case(f"c{n}", (root / f"i{n}.nii.gz",), root / f"l{n}.nii.gz"))
    return Dataset("test", root, ("CT",), LABELS, tuple(cases))


def test_a_dataset_is_read_in_order_whatever_the_workers(tmp_path: Path) -> None:
    dataset, seen = make_dataset(tmp_path), []
    found = fingerprint(dataset, workers=3, progress=lambda done, total: seen.append((done, total)))
    assert [case.id for case in found.cases] == ["c0", "c1", "c2"]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert found == fingerprint(dataset, workers=1)
    assert [case.id for case in fingerprint(dataset, ["c2"]).cases] == ["c2"]
    assert {case.shape for case in fingerprint(dataset, crop_nonzero=False).cases} == {(12, 11, 10)}
    write_json(tmp_path / "fingerprint.json", to_data(found))
    assert load_json(Fingerprint, tmp_path / "fingerprint.json") == found


def test_unreadable_cases_are_all_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    (tmp_path / "l0.nii.gz").unlink()
    (tmp_path / "i2.nii.gz").write_bytes(b"not an image")
    with pytest.raises(ValueError, match="2 of 3 cases failed") as failure:
        fingerprint(dataset)
    assert all(name in str(failure.value) for name in ("c0", "c2"))
    with pytest.raises(ValueError, match="no case 'nope'"):
        fingerprint(dataset, ["nope"])
    with pytest.raises(ValueError, match="no labelled case"):
        fingerprint(dataset, [])
