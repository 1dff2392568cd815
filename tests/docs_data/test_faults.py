"""The page's section on metrics says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tests.metrics.shapes import flat_pair
from voxward.core.labels import LabelSet
from voxward.metrics.nsd import NSD_DEFINITIONS
from voxward.metrics.policies import Scoring
from voxward.metrics.registry import METRICS
from voxward.metrics.score import score_case

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def section(heading: str) -> str:
    return PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_definitions_of_the_nsd() -> None:
    rows = re.findall(r"^\| `(\w+)`.*?\| `(NSD[^`]*)` \|", section("Metrics"), re.MULTILINE)
    assert rows == [(name, METRICS["nsd"].title(Scoring(nsd=name))) for name in NSD_DEFINITIONS]
    assert f"`{Scoring().nsd}` (default)" in section("Metrics")
    assert f"a tolerance of {Scoring().nsd_tolerance_mm:g} mm" in section("Metrics")


def test_the_figures_on_thick_slices() -> None:
    *masks, spacing = flat_pair()
    maps = [mask.astype(np.uint8) for mask in masks]
    labels = LabelSet(("background", "organ"), (0, 1))
    scores = [score_case("a", *maps, spacing, labels, Scoring(nsd=kind)) for kind in ("voxels", "area")]
    figures = [f"{case.classes['organ']['nsd']:.3f}" for case in scores]
    assert re.findall(r"\b0\.\d{3}\b", section("Metrics")) == figures
