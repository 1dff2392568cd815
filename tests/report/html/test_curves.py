"""The section of curves: charts that scripts and readers can use, unique ids, and reasons for what is missing."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

from tests.report.html.attack_source import attack_source, sources_of
from tests.report.html.markup import parsed
from tests.robustness.books import book
from voxward.report.html.page import Setting, render
from voxward.report.html.sections.curves import curves
from voxward.report.html.sections.verdict import verdict
from voxward.report.html.strings import STRINGS

BOTH = sources_of(attack_source(book(), "first"), attack_source(book(), "second"))


def test_the_page_holds_every_figure_of_every_chart():
    page = render(BOTH)
    held = [json.loads(text) for text in re.findall(r'data-role="figures">(.*?)</script>', page)]
    charts = [chart for part in curves(BOTH, Setting()) for chart in part.charts]
    assert held == [json.loads(json.dumps(chart.data())) for chart in charts]
    ids = Counter(re.findall(r'\bid="([^"]+)"', page))
    assert [id for id, number in ids.items() if number > 1] == []
    links = re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', page)
    assert links
    assert set(links) <= set(ids)
    for chart in charts:
        for part in ("choice", "plot", "reading", "legend", "paper", "png", "svg", "csv"):
            assert f"chart-{chart.name}-{part}" in ids
        assert f"{chart.panels[0].lines[0].told}: " in chart.description


def test_a_name_cannot_break_the_page():
    name = "</script><b>$x$ & \"quotes\" 'and' `ticks`"
    page = render(sources_of(attack_source([replace(record, model=name) for record in book()])))
    assert "</script><b>" not in page
    assert "<b>$x$" not in page


def test_what_cannot_be_drawn_is_said():
    no_history = [replace(record, history=()) for record in book()]
    (part,) = curves(sources_of(attack_source(no_history)), Setting())
    assert [chart.name for chart in part.charts] == ["dice-over-eps-1"]
    assert part.problems == ("None of the attacks of folder kept its course, so that there is no chart of it.",)
    no_clean = [record for record in book() if record.attack != "clean"]
    (part,) = curves(sources_of(attack_source(no_clean)), Setting())
    assert [chart.name for chart in part.charts] == ["dice-over-evaluations-1"]
    assert "there is no clean control of model 'm'" in part.problems[0]
    assert curves(sources_of(), Setting()) is None


def test_the_lowest_figure_is_that_of_the_headline():
    # The last group lacks y, which hurt most.
    source = replace(attack_source(book()), groups={"both": ("x", "y"), "x": ("x",)})
    page = sources_of(source)
    (part,) = curves(page, Setting())
    (worst,) = [line for line in part.charts[0].panels[0].lines if line.name == "m"]
    (system,) = verdict(page, Setting())[0].systems
    assert f"{worst.points[-1].y:.3f}" == system.tiles[1].value == "0.100"


def test_a_chart_is_told_in_words_and_not_by_a_bug():
    page = parsed(render(BOTH))
    labels = [one.attributes["aria-label"] for one in page.elements if one.attributes.get("data-role") == "plot"]
    assert labels
    assert all(label.endswith("Home and End go to its ends.") for label in labels)
    # A template takes the method of a dict for such a name.
    assert [name for section in STRINGS.values() for name in section if hasattr(section, name)] == []


def test_what_a_chart_leaves_out_stands_beside_it():
    (part,) = curves(sources_of(attack_source(book())), Setting())
    over_eps, over_evaluations = part.charts
    assert any("A single class has none." in note for note in over_eps.notes)
    assert not any("written files" in note for note in over_evaluations.notes)
    written = [replace(record, deployed=(0.5, 0.5), deployed_clean=(0.5, 0.5)) for record in book()]
    (part,) = curves(sources_of(attack_source(written)), Setting())
    assert any("of written files" in note for note in part.charts[1].notes)
    quiet = [record for record in book() if record.attack != "noise"]
    (part,) = curves(sources_of(attack_source(quiet)), Setting())
    assert not any("A single class" in note for note in part.charts[0].notes)
