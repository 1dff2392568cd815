"""The page's section on unseen cases says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from voxward.core.case import Volume
from voxward.core.choices import SCORED_SPLITS, Cases
from voxward.data.identity import FEW_VALUES, identity_of, same_image

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("\n## Which cases are unseen\n")[2].partition("\n## ")[0]

AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])
IMAGE = np.random.default_rng(0).normal(100, 20, (2, 9, 8, 7)).astype(np.float32)


def as_stored(array: np.ndarray, affine: np.ndarray = AFFINE) -> Volume:
    return Volume(array, affine)


CHANGES = {
    "file type": as_stored(IMAGE.astype(np.float64)),
    "order or direction": as_stored(np.flip(IMAGE, 1), np.eye(4)),
    "origin or voxel size": as_stored(IMAGE, AFFINE * 1.5),
    "another integer scaling": as_stored(3 * IMAGE + 7),
    "channels in another order": as_stored(IMAGE[[1]]),
    "cropped": as_stored(IMAGE[:, 1:]),
}


def test_the_splits_and_the_default() -> None:
    table = SECTION.partition("| `--split` |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == SCORED_SPLITS
    assert f"| `{Cases().split}` (default) |" in table


def test_the_number_of_intensities() -> None:
    assert f"at most {FEW_VALUES}\ndifferent intensities" in SECTION


@pytest.mark.parametrize("change", CHANGES)
def test_what_counts_as_the_same_image(change: str) -> None:
    row = next(line for line in SECTION.splitlines() if line.startswith(f"| {change}"))
    said = row.split("|")[2].strip().startswith("yes")
    assert same_image(identity_of(as_stored(IMAGE)), identity_of(CHANGES[change])) is said
