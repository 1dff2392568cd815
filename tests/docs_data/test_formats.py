"""The page's section on files and folders says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from voxward.core.files import name_fault
from voxward.data.formats import LAYOUTS, declared
from voxward.data.formats.brats import NAMINGS, TREATED
from voxward.data.formats.datalist import LISTS, distinct_ids
from voxward.data.io import write_image
from voxward.data.volume_file import SUFFIXES
from voxward.report.problems import MOST_ROWS, NAMED

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SECTION = PAGE.split("\n## Files and folders\n")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in SECTION.splitlines() if line.startswith("|")]
PROSE = " ".join(SECTION.split())


def rows(heading: str) -> list[list[str]]:
    """The rows of the table whose first heading is given."""
    start = next(n for n, row in enumerate(ROWS) if row[0] == heading)
    end = next((n for n in range(start + 2, len(ROWS)) if ROWS[n][0].startswith("---")), len(ROWS) + 1) - 1
    return ROWS[start + 2 : end]


def test_file_types() -> None:
    assert tuple(re.findall(r"`(\.[a-z.]+)`", PROSE.split("Volume files end in ")[1].split(". ")[0])) == SUFFIXES


def test_layouts() -> None:
    named = [row[0] for row in rows("layout")]
    modules = {"Decathlon": "msd", "Auto3DSeg": "msd", "nnU-Net v1": "msd", "nnU-Net v2": "nnunet"}
    modules |= {"plain": "folder", "BIDS": "bids", "BraTS": "brats"}
    assert set(named) == set(modules)
    assert {modules[name] for name in named} == {vars(layout)["__name__"].rpartition(".")[2] for layout in LAYOUTS}


def test_lists() -> None:
    assert [name for row in rows("list") for name in re.findall(r"`(\w+)`", row[0])] == list(LISTS)


def test_ids() -> None:
    for images, ids in rows("image files"):
        assert distinct_ids(re.findall(r"`(.*?)`", images)) == re.findall(r"`(.*?)`", ids)


def test_brats_values() -> None:
    old, new = (list(naming.labels.values[1:]) for naming in NAMINGS)
    values = [[int(value) for value in re.findall(r"\d+", row[1])] for row in rows("BraTS cases")]
    assert values == [old, new, list(TREATED.values[1:])]
    names = [re.findall(r"[A-Z]+", row[2]) for row in rows("BraTS cases")]
    assert names == [list(labels.names[1:]) for labels in (NAMINGS[0].labels, NAMINGS[1].labels, TREATED)]


def test_numbers_of_the_table_of_problems() -> None:
    assert f"More than {MOST_ROWS} problems" in PROSE
    assert f"the first {NAMED} cases" in PROSE


def test_names() -> None:
    longest = int(re.search(r"at most (\d+) bytes", PROSE)[1])  # type: ignore[index]
    assert name_fault("x" * longest) is None
    assert name_fault("x" * (longest + 1)) is not None


def test_warnings_are_the_kinds_of_the_code(tmp_path: Path) -> None:
    entry = {"image": "a.nii", "label": "l.nii", "dose": "d.nii", "fold": 0}
    more = [{"image": f"{name}.nii", "label": "l.nii"} for name in ("B", "b")]
    description = {
        "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a"}, "numTraining": 9, "extra": ["e.nii"],
        "training": [entry, *more], "validation": ["v.nii"], "testing": ["a.nii"],
    }  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    kinds = {remark.kind for remark in declared(tmp_path)[0].remarks}
    nnunet = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(nnunet))
    write_image(tmp_path / "imagesTr/a.nii.gz", np.zeros((1, 2, 2, 2), np.int16), np.eye(4))
    kinds |= {remark.kind for remark in declared(tmp_path)[0].remarks}
    assert {row[0].strip("`") for row in rows("warning")} == kinds
