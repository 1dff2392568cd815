from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from voxward.core.case import Case, Dataset
from voxward.core.labels import LabelSet
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split, selection_split

LABELS = LabelSet(("background", "a"), (0, 1))


def dataset(ids: list[str], splits_file: Path | None = None) -> Dataset:
    cases = tuple(Case(id, (Path(f"{id}.nii"),), Path(f"l/{id}.nii")) for id in ids)
    return Dataset("d", Path("d"), ("MRI",), LABELS, cases, (Case("test", (Path("t.nii"),)),), splits_file)


IDS = [f"c{n}" for n in range(23)]


def test_five_folds_share_out_all_cases() -> None:
    folds = [load_split(dataset(IDS), fold, seed=3) for fold in range(5)]
    assert sorted(id for fold in folds for id in fold.validation) == sorted(IDS)
    for fold in folds:
        assert sorted(fold.train + fold.validation) == sorted(IDS)
        assert len(fold.validation) in (4, 5)


def test_a_split_depends_on_the_seed_only() -> None:
    assert load_split(dataset(IDS)) == load_split(dataset(IDS[::-1]))
    assert len({load_split(dataset(IDS), seed=seed) for seed in range(5)}) == 5
    assert selection_split(IDS, 0.2, 1) == selection_split(IDS[::-1], 0.2, 1)
    assert len({selection_split(IDS, 0.2, seed) for seed in range(5)}) == 5


def test_few_cases() -> None:
    split = load_split(dataset(["a", "b"]))
    assert (len(split.train), len(split.validation)) == (1, 1)
    with pytest.raises(ValueError, match="at least 2"):
        load_split(dataset(["a"]))
    with pytest.raises(ValueError, match="fold must be 0 to 1"):
        load_split(dataset(["a", "b"]), fold=2)


def test_own_splits_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps([{"train": ["c2", "c1"], "val": ["c0"]}, {"train": ["c0"], "val": ["c4"]}]))
    assert load_split(dataset(IDS, path)).train == ("c1", "c2")
    assert load_split(dataset(IDS, path), fold=1).validation == ("c4",)
    with pytest.raises(ValueError, match="fold must be 0 to 1"):
        load_split(dataset(IDS, path), fold=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"train": ["c1", "zz"], "val": ["c0"]}], "zz"),
        ([{"train": ["c1"], "val": ["test"]}], "no labelled case test"),
        ([{"train": ["c1", "c0"], "val": ["c0"]}], "c0 in both"),
        ([{"train": ["c1", "c1"], "val": ["c0"]}], "repeats"),
        ([{"train": ["c1"]}], '"val" list'),
        ([{"train": [], "val": ["c0"]}], '"train" list'),
        ({"train": ["c1"], "val": ["c0"]}, "must hold a list"),
    ],
)
def test_unusable_splits_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_split(dataset(IDS, path))


@pytest.mark.parametrize(
    ("cases", "fraction", "selected"),
    [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (23, 0.1, 2), (23, 0.0, 0), (0, 0.1, 0)],
)
def test_selection_keeps_something_on_both_sides(cases: int, fraction: float, selected: int) -> None:
    fit, selection = selection_split(IDS[:cases], fraction)
    assert len(selection) == selected
    assert sorted(fit + selection) == sorted(IDS[:cases])


def test_selection_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="fraction"):
        selection_split(IDS, 1.0)
    with pytest.raises(ValueError, match="differ"):
        selection_split(["a", "a"])


@pytest.mark.data
def test_the_published_hippocampus_split(data_root: Path) -> None:
    split = load_split(open_dataset(data_root / "Task04_Hippocampus"))
    assert (len(split.train), len(split.validation)) == (208, 26)
