"""Every line is seen in both schemes, and style sheet and figures have the same colours."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from voxward.report.palette import DASHES, LINES, line_colour, palette_css, palette_data


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    shares = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    r, g, b = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(first: str, second: str) -> float:
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", LINES, ids=lambda colour: colour.name)
def test_lines_have_contrast_in_both_schemes(colour):
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    css = files("voxward.report.html").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = re.findall(r"--back: (#\w{6});", css)[:2]
    assert contrast(colour.light, light) >= 3
    assert contrast(colour.dark, dark) >= 3


def test_the_style_sheet_has_the_colours_of_figures():
    light, dark, paper = palette_css().strip().split("\n")
    for number, colour in enumerate(LINES):
        assert f"--line-{number}: {colour.light};" in light
        assert f"--line-{number}: {colour.dark};" in dark
        assert f"--line-{number}: {colour.light};" in paper
    assert palette_data()["lines"] == len(LINES)
    assert [tuple(dash) for dash in palette_data()["dashes"]] == list(DASHES)


def test_colours_and_dashes_differ():
    assert line_colour(len(LINES)) == LINES[0]
    for values in ({c.light for c in LINES}, {c.dark for c in LINES}):
        assert len(values) == len(LINES)
    assert len(set(DASHES)) == len(DASHES)
    assert DASHES[0] == ()
