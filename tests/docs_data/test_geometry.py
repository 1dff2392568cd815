"""The page's numbers on geometry against the code's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from voxward.core.choices import AFFINE_TOLERANCE
from voxward.core.spacing import SHEARED_DEGREES
from voxward.data import check_geometry, nifti, sizes
from voxward.data.units import NIFTI_PER_MM, named_per_mm

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Geometry: units, voxel size, orientation\n")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in SECTION.splitlines() if line.startswith("|")]
PROSE = " ".join(SECTION.split())


def test_units() -> None:
    nifti_rows = {int(row[1].split()[0]): float(row[2]) for row in ROWS if row[0] == "NIfTI `xyzt_units`"}
    assert nifti_rows == dict(NIFTI_PER_MM)
    named = {row[1].strip("`"): float(row[2]) for row in ROWS if row[0].startswith("NRRD")}
    assert len(named) == 5
    assert {name: named_per_mm(name) for name in named} == named
    assert named_per_mm("furlong") == named_per_mm("") == 1.0


def test_tolerances() -> None:
    assert [row[0] for row in ROWS if "of a voxel" in row[0]] == [
        f"up to {check_geometry.NOTICED_VOXELS:g} of a voxel",
        f"up to {AFFINE_TOLERANCE:g} of a voxel",
    ]


def test_kinds_and_limits_of_the_check() -> None:
    kinds = {row[0].strip("`"): row[1] for row in ROWS if row[1].strip() and row[0].strip("`") in _KINDS}
    assert set(kinds) == _KINDS
    assert f"{check_geometry.UNLIKE_MEDIAN:g} times larger" in kinds["voxel size"]
    assert (
        f"below {check_geometry.LEAST_EDGE_MM:g} mm or above {check_geometry.GREATEST_EDGE_MM:g} mm"
        in kinds["voxel size"]
    )
    assert f"{SHEARED_DEGREES:g} degrees" in kinds["sheared"]
    assert f"more than {check_geometry.SINGLY} cases share" in PROSE


_SOURCES = [Path(module.__file__).read_text(encoding="utf-8") for module in (check_geometry, nifti)]
_SOURCES.append((Path(nifti.__file__).parent / "nifti_geometry.py").read_text(encoding="utf-8"))
# What the code yields as a kind: the string before a message.
_KINDS = {
    kind
    for kind in ("voxel size", "sheared", "qform and sform", "no position", "form code", "place", "pixel size")
    if any(f'"{kind}", ' in source for source in _SOURCES)
}


def test_every_kind_of_the_page_is_one_of_the_code() -> None:
    assert len(_KINDS) == 7


def test_sizes() -> None:
    assert f"more than {sizes.MOST_VOXELS} voxels" in PROSE
    assert f"fewer than {sizes.FEWEST} voxels of an axis that had at least {sizes.FEWEST**2}" in PROSE
    assert re.search(r"more than (\d+) voxels is written as NIfTI-2", PROSE)[1] == str(np.iinfo(np.int16).max)
