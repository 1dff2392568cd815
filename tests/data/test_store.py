from __future__ import annotations

import os
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import blosc2
import nibabel
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.data.volumes import make_plan
from voxward.core.case import Case, Dataset, Frame, PreparedCase
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan
from voxward.data.preparation_digest import preparation_digest
from voxward.data.sampling import PatchSource
from voxward.data.store import StoredCase, open_case, prepare_dataset, write_case

LABELS = LabelSet(("background", "organ", "lesion"), (0, 1, 2))
PLAN = make_plan(labels=LABELS)


def make_case(shape: tuple[int, int, int] = (30, 25, 7), channels: int = 2, classes: int = 3) -> PreparedCase:
    numbers = (0.5,) * channels
    affine = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    frame = Frame(shape, affine, (0, 1, 2), (False, True, False), (0, 0, 0), shape, shape, *(numbers,) * 4)
    label = torch.zeros(shape, dtype=torch.uint8 if classes <= 256 else torch.int32)
    label[10:, :, 2:] = 1
    label[3, 4, 5] = classes - 1
    return PreparedCase("case-1", torch.randn(channels, *shape), label, frame)


def write(folder: Path, case: PreparedCase, classes: int = 3) -> StoredCase:
    write_case(folder / case.id, case, (16, 16, 4), classes)
    return open_case(folder / case.id, case.id)


def test_round_trip_is_lossless(tmp_path: Path) -> None:
    case = make_case()
    stored = write(tmp_path, case)
    assert isinstance(stored, PatchSource)
    assert (stored.id, stored.shape, stored.classes) == ("case-1", (30, 25, 7), (1, 2))
    loaded = stored.load()
    assert torch.equal(loaded.image, case.image)
    assert torch.equal(loaded.label, case.label)
    assert loaded.frame == case.frame
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case-1"]


def test_regions_are_those_of_the_array(tmp_path: Path) -> None:
    case = make_case()
    stored = write(tmp_path, case)
    for start, stop in (((0, 0, 0), (1, 1, 1)), ((7, 3, 2), (30, 25, 7)), ((15, 15, 3), (17, 18, 5))):
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        assert torch.equal(stored.image_region(start, stop), case.image[(slice(None), *box)])
        assert torch.equal(stored.label_region(start, stop), case.label[box])
    for start, stop in (((-1, 0, 0), (3, 3, 3)), ((0, 0, 0), (3, 3, 8)), ((2, 2, 2), (2, 3, 3))):
        with pytest.raises(ValueError, match="within the shape"):
            stored.image_region(start, stop)


def test_a_region_decodes_only_its_chunks(tmp_path: Path) -> None:
    """Damage outside the chunks of a region does not touch it, damage inside does."""
    case = make_case((32, 32, 8), channels=1)
    stored = write(tmp_path, case)
    path = stored.folder / "image.b2nd"
    data = bytearray(path.read_bytes())
    data[len(data) * 6 // 10 : len(data) * 8 // 10] = bytes(len(data) * 8 // 10 - len(data) * 6 // 10)
    path.write_bytes(data)
    assert torch.equal(stored.image_region((0, 0, 0), (8, 8, 2)), case.image[:, :8, :8, :2])
    try:
        damaged = stored.image_region((0, 0, 0), (32, 32, 8))
    except UserError:
        return
    assert not torch.equal(damaged, case.image)


def test_locations_are_voxels_of_their_class(tmp_path: Path) -> None:
    case = make_case((40, 40, 20))
    stored = write(tmp_path, case)
    for k in stored.classes:
        places = stored.locations(k)
        assert places.dtype == np.int32
        assert (case.label[tuple(torch.from_numpy(places.astype(np.int64)).T)] == k).all()
        assert len(np.unique(places, axis=0)) == len(places) == min(10_000, int((case.label == k).sum()))
    assert stored.locations(2).tolist() == [[3, 4, 5]]
    # A choice among many is spread over the whole class.
    assert np.abs(stored.locations(1).mean(0) - np.argwhere(case.label.numpy() == 1).mean(0)).max() < 0.3
    for absent in (0, 7):  # the background is never drawn from
        with pytest.raises(ValueError, match=f"holds no foreground class {absent}"):
            stored.locations(absent)
    with np.load(stored.folder / "locations.npz") as kept:
        assert sorted(kept) == ["1", "2"]


def test_a_label_without_foreground(tmp_path: Path) -> None:
    case = make_case()
    stored = write(tmp_path, replace(case, label=torch.zeros_like(case.label)))
    assert stored.classes == ()
    assert stored.load().label.max() == 0


def test_the_choice_of_locations_is_reproducible(tmp_path: Path) -> None:
    case = make_case((40, 40, 20))
    first = write(tmp_path / "a", case).locations(1)
    np.testing.assert_array_equal(first, write(tmp_path / "b", case).locations(1))


def test_more_than_256_classes(tmp_path: Path) -> None:
    case = make_case(classes=400)
    stored = write(tmp_path, case, classes=400)
    assert stored.classes == (1, 399)
    assert torch.equal(stored.load().label, case.label)


def test_a_case_without_label(tmp_path: Path) -> None:
    stored = write(tmp_path, replace(make_case(), label=None))
    assert stored.classes == ()
    assert stored.load().label is None
    with pytest.raises(ValueError, match="without a label"):
        stored.label_region((0, 0, 0), (1, 1, 1))


def test_rewriting_is_seen_by_open_cases(tmp_path: Path) -> None:
    old = write(tmp_path, make_case())
    old.load()
    new = make_case()
    write(tmp_path, new)
    assert torch.equal(old.load().image, new.image)


def test_missing_and_wrong_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no prepared case"):
        open_case(tmp_path / "none", "none")
    write(tmp_path, make_case())
    with pytest.raises(ValueError, match="holds case 'case-1', not 'other'"):
        open_case(tmp_path / "case-1", "other")


class Regions(torch.utils.data.Dataset):
    def __init__(self, stored: StoredCase) -> None:
        self.stored = stored

    def __len__(self) -> int:
        return 6

    def __getitem__(self, n: int) -> torch.Tensor:
        return self.stored.image_region((n, n, 0), (n + 10, n + 10, 7))


def test_worker_processes_and_threads_can_read(tmp_path: Path) -> None:
    case = make_case()
    stored = pickle.loads(pickle.dumps(write(tmp_path, case)))
    stored.load()  # opened here first: the workers must not inherit the open file
    expected = [case.image[:, n : n + 10, n : n + 10] for n in range(6)]
    for n, patch in enumerate(DataLoader(Regions(stored), batch_size=None, num_workers=2)):
        assert torch.equal(patch, expected[n])
    with ThreadPoolExecutor(4) as pool:
        for n, patch in enumerate(pool.map(Regions(stored).__getitem__, range(6))):
            assert torch.equal(patch, expected[n])


def make_dataset(root: Path, count: int = 3) -> Dataset:
    rng = np.random.default_rng(0)
    cases = []
    for n in range(count):
        label = np.zeros((12, 11, 10), np.uint8)
        label[3:8, 3:8, 3:8] = 1
        image = (rng.normal(100, 5, label.shape) + 50 * label).astype(np.float32)
        affine = np.diag([-1.0, 1.0, 1.2, 1.0])
        nibabel.save(nibabel.Nifti1Image(image, affine), root / f"image{n}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, affine), root / f"label{n}.nii.gz")
        cases.append(Case(f"c{n}", (root / f"image{n}.nii.gz",), root / f"label{n}.nii.gz"))
    return Dataset("test", root, ("MRI",), LABELS, tuple(cases))


def test_a_dataset_is_prepared_once(tmp_path: Path) -> None:
    dataset, out, seen = make_dataset(tmp_path), tmp_path / "out", []
    prepare_dataset(dataset, PLAN, out, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert open_case(out / "c1", "c1").classes == (1,)
    assert open_case(out / "c1", "c1").shape == (12, 11, 12)
    before = {path: path.stat().st_mtime_ns for path in out.glob("c*/*")}
    shutil.rmtree(out / "c2")  # as if interrupted
    prepare_dataset(dataset, replace(PLAN, batch_size=5), out)
    after = {path: path.stat().st_mtime_ns for path in out.glob("c*/*")}
    assert {path.parent.name for path in after if after[path] != before[path]} == {"c2"}
    assert set(after) == set(before)


def test_a_plan_that_prepares_differently_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, 1)
    prepare_dataset(dataset, PLAN, tmp_path / "out")
    with pytest.raises(ValueError, match=r"another plan.*choose another folder"):
        prepare_dataset(dataset, replace(PLAN, spacing=(2.0, 1.0, 1.0)), tmp_path / "out")


def test_a_case_whose_files_change_is_prepared_again(tmp_path: Path) -> None:
    dataset, out = make_dataset(tmp_path), tmp_path / "out"
    prepare_dataset(dataset, PLAN, out)
    before = {path.name: (path / "case.json").stat().st_mtime_ns for path in out.glob("c*")}
    corrected = np.full((12, 11, 10), 2, np.uint8)
    nibabel.save(nibabel.Nifti1Image(corrected, np.diag([-1.0, 1.0, 1.2, 1.0])), tmp_path / "label1.nii.gz")
    os.utime(tmp_path / "image2.nii.gz", ns=(0, 0))
    prepare_dataset(dataset, PLAN, out)
    after = {path.name: (path / "case.json").stat().st_mtime_ns for path in out.glob("c*")}
    assert {name for name in after if after[name] != before[name]} == {"c1", "c2"}
    assert open_case(out / "c1", "c1").classes == (2,)


@pytest.mark.parametrize(("normalization", "shared"), [("mr", True), ("none", True), ("ct", False), ("clip", False)])
def test_folds_share_a_folder_unless_their_own_figures_normalise(
    tmp_path: Path, normalization: str, shared: bool
) -> None:
    plans = [
        replace(PLAN, channels=(ChannelPlan("x", normalization, -5.0 - fold, 9.0, 2.0 + fold, 3.0),))
        for fold in range(2)
    ]
    assert (preparation_digest(plans[0]) == preparation_digest(plans[1])) == shared
    dataset, out = make_dataset(tmp_path, 1), tmp_path / "out"
    prepare_dataset(dataset, plans[0], out)
    written = (out / "c0" / "case.json").stat().st_mtime_ns
    if shared:
        prepare_dataset(dataset, plans[1], out)
    else:
        with pytest.raises(ValueError, match="another plan"):
            prepare_dataset(dataset, plans[1], out)
    assert (out / "c0" / "case.json").stat().st_mtime_ns == written


def test_failures_are_gathered_and_the_rest_is_done(tmp_path: Path) -> None:
    dataset, out = make_dataset(tmp_path), tmp_path / "out"
    nibabel.save(
        nibabel.Nifti1Image(np.full((12, 11, 10), 9, np.uint8), np.diag([-1, 1, 1.2, 1])), tmp_path / "label0.nii.gz"
    )
    (tmp_path / "image2.nii.gz").unlink()
    with pytest.raises(ValueError, match="2 of 3 cases failed") as failure:
        prepare_dataset(dataset, PLAN, out)
    assert "c0" in str(failure.value)
    assert "[9] are not declared" in str(failure.value)
    assert "c2" in str(failure.value)
    assert [path.name for path in sorted(out.iterdir())] == ["c1", "plan.json"]


def test_workers_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        prepare_dataset(make_dataset(tmp_path, 1), PLAN, tmp_path / "out", workers=0)


def _harmful(folder: Path, kind: str, path: Path) -> Path:
    """Store an array at `path` that is computed by Python source when it is read; what that source leaves behind."""
    trace, source = folder / "harmed", folder / "harmful.py"
    lines = ("def harm(inputs, output, offset):", f"    open({str(trace)!r}, 'w').close()", "    output[:] = 0", "")
    source.write_text("\n".join(lines), encoding="utf-8")
    spec = spec_from_file_location("harmful", source)
    module = module_from_spec(spec)
    sys.modules["harmful"] = module  # where the source is looked for when it is stored
    spec.loader.exec_module(module)
    operand = blosc2.asarray(np.zeros((1, 4, 4, 4), np.float32), urlpath=str(folder / "operand.b2nd"), mode="w")
    path.unlink()
    stored = blosc2.lazyudf(module.harm, (operand,), np.float32) if kind == "function" else operand + 1
    stored.save(urlpath=str(path))
    trace.unlink(missing_ok=True)
    return trace


@pytest.mark.parametrize("file", ["image.b2nd", "label.b2nd"])
@pytest.mark.parametrize("kind", ["function", "expression"])
def test_a_stored_array_runs_nothing(tmp_path: Path, kind: str, file: str) -> None:
    dataset = make_dataset(tmp_path, 1)
    prepare_dataset(dataset, PLAN, tmp_path / "out")
    trace = _harmful(tmp_path, kind, tmp_path / "out" / "c0" / file)
    with pytest.raises(ValueError, match=rf"c0/{file} is not a prepared array"):
        open_case(tmp_path / "out" / "c0", "c0").load()
    assert not trace.exists()
    blosc2.open(str(tmp_path / "out" / "c0" / file), mode="r", deserialize="full")[:]  # it would have
    assert trace.exists() is (kind == "function")


def test_what_is_no_array_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, 1)
    prepare_dataset(dataset, PLAN, tmp_path / "out")
    path = tmp_path / "out" / "c0" / "image.b2nd"
    path.unlink()
    blosc2.SChunk(chunksize=800, data=np.zeros(100), urlpath=str(path), mode="w")
    with pytest.raises(ValueError, match=r"image\.b2nd must hold a plain array, got SChunk"):
        open_case(tmp_path / "out" / "c0", "c0").load()
    path.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"image\.b2nd is not a prepared array, or damaged"):
        open_case(tmp_path / "out" / "c0", "c0").load()
