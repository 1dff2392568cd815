"""Charts on paper: well-formed, with text as text, without a date, and without a warning for odd figures."""

from __future__ import annotations

import warnings
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from voxward.report.chart import Axis, Chart, Line, Panel, Point
from voxward.report.chart_figure import inline_svg, spaced, write_chart
from voxward.report.style import shortened

LINE = Line("run", (Point(0.0, 0.9, 0.8, 1.0, 3), Point(0.1, 0.5, 0.4, 0.6, 3)))
AXES = Axis("eps", ((0.0, "0"), (0.1, "0.1"))), Axis("Dice", limits=(0.0, 1.0))


def chart(*panels, name="one", x=AXES[0], **others):
    return Chart(name, "Title", x, AXES[1], panels or (Panel("mean", (LINE,)),), **others)


@pytest.fixture(scope="module")
def element():
    return ElementTree.fromstring(inline_svg(chart()))


def test_an_svg_of_the_page_has_ids_of_its_own_and_no_style_for_others(element):
    ids = [found.get("id") for found in element.iter() if found.get("id")]
    assert ids
    assert all(id.startswith("one-") for id in ids)
    used = [value for found in element.iter() for value in found.attrib.values() if "#" in value and "url(" in value]
    assert used
    assert all("url(#one-" in value for value in used)
    assert not [found for found in element.iter() if found.tag.endswith(("style", "metadata"))]
    known = {f"#{id}" for id in ids}
    links = [value for found in element.iter() for name, value in found.attrib.items() if name.endswith("href")]
    assert links
    assert all(link in known for link in links)


def test_text_stays_text(element):
    texts = {"".join(found.itertext()).strip() for found in element.iter() if found.tag.endswith("}text")}
    assert {"mean", "eps", "Dice", "0.1"} <= texts
    assert element.get("role") == "img"
    assert element.get("aria-label") == "Title"


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_files_are_the_same_twice_and_undated(suffix, tmp_path):
    for name in "ab":
        write_chart(chart(), tmp_path / f"{name}.{suffix}")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert first.startswith({"svg": b"<?xml", "pdf": b"%PDF"}[suffix])
    assert not any(word in first for word in (b"CreationDate", b"ModDate", b"<dc:date>"))


ODD = {
    "no lines": chart(Panel("mean", ())),
    "one point": chart(Panel("mean", (Line("run", (Point(0.0, 0.5),)),)), x=Axis("eps", ((0.0, "0"),))),
    "no figure": chart(Panel("mean", (Line("run", (Point(0.0, None), Point(0.1, None))), replace(LINE, name="_b")))),
    "one evaluation": chart(Panel("a", (Line("x", (Point(1.0, 0.5),)),)), x=Axis("n", logarithmic=True), steps=True),
    "names": chart(*(Panel("$x_{" + "long name " * 20, (replace(LINE, name="a$b_" * 60),)) for _ in range(13))),
    "many lines": chart(Panel("mean", tuple(replace(LINE, name=f"run {n}" * 5) for n in range(40)))),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=list(ODD))
def test_odd_figures_are_drawn_without_a_warning(odd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ElementTree.fromstring(inline_svg(odd)) is not None


def test_letters_that_no_font_has_are_named_once(tmp_path):
    odd = chart(Panel("mean \U0010fffd", (LINE,)))
    with pytest.warns(UserWarning, match=r"no font on this machine has .*show boxes instead") as found:
        write_chart(odd, tmp_path / "a.png")
    assert len(found) == 1


def test_ticks_keep_their_distance_and_names_are_cut_in_the_middle():
    assert spaced([0.0, 0.1, 0.2, 0.9, 1.0], 0.15) == [0, 0.2, 1.0]
    assert spaced([0.0], 0.2) == [0]
    assert shortened("run-a", 10) == "run-a"
    assert shortened("abcdefghijklmnopqrstuvwxyz", 9) == "abcd…wxyz"
    assert shortened("two\nlines", 20) == "two lines"


def test_the_legend_has_the_figures_of_every_panel():
    def drawn(*figures):
        panels = [Panel(str(n), (replace(LINE, name="pgd", figure=one),)) for n, one in enumerate(figures)]
        return inline_svg(chart(*panels))

    assert "pgd (AUC 0.53 / 0.61)" in drawn("AUC 0.53", "AUC 0.61")
    assert "pgd (AUC 0.53)" in drawn("AUC 0.53")  # one line alone has a legend, too
    assert "AUC" not in drawn(*["AUC 0.53"] * 9)
    assert ">pgd<" not in drawn("")
