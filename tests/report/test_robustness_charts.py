"""Charts hold what the records say, found here by counting through the records."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from statistics import fmean

import pytest

from tests.report.test_leaderboard import weaker
from tests.robustness.books import book, clean, record
from voxward.core.errors import UserError
from voxward.report.palette import LINES
from voxward.report.robustness_charts import dice_over_eps, dice_over_evaluations

ENSEMBLES = {"weak": ("x",), "strong": ("x", "y")}


def test_the_mean_is_that_of_each_cases_worst_attack():
    chart = dice_over_eps(book(), ENSEMBLES)
    line, noise = chart.panels[0].lines
    assert [(point.x, point.n) for point in line.points] == [(0.0, 2), (0.1, 2), (0.2, 2)]
    # Clean 0.8 and 0.7; at 0.1 the worst are 0.3 and 0.4; at 0.2 they are 0.2 and 0.
    assert [point.y for point in line.points] == pytest.approx([0.75, 0.35, 0.1])
    assert [(point.low, point.high) for point in line.points][1] == pytest.approx((0.3, 0.4))
    assert [text for _, text in chart.x.ticks] == ["0", "25.5/255", "51/255"]
    # The control of the same size: at 0.2 there is none.
    assert [point.y for point in noise.points] == [pytest.approx(0.75), pytest.approx(fmean((0.8, 0.698))), None]
    assert (line.dash, noise.dash) == (0, 1)


def test_only_the_last_group_of_attacks_counts():
    chart = dice_over_eps(book(), {"all": ("x", "y"), "x alone": ("x",)})
    assert [point.y for point in chart.panels[0].lines[0].points] == pytest.approx([0.75, 0.45, 0.15])
    assert "x alone" in chart.title


def test_a_class_has_its_dice_under_the_attack_that_hurt_the_mean_most():
    chart = dice_over_eps(book(), ENSEMBLES)
    assert [panel.name for panel in chart.panels[1:]] == ["liver", "tumour"]
    liver, tumour = (panel.lines[0] for panel in chart.panels[1:])
    # At 0.1 case a falls most to y (0.3, 0.3), case b to x (0.5, 0.3); at 0.2 to x (0.4, 0) and y (0, 0).
    assert [point.y for point in liver.points] == pytest.approx([0.85, 0.4, 0.2])
    assert [point.y for point in tumour.points] == pytest.approx([0.65, 0.3, 0.0])


def test_evaluations_are_averaged_and_stand_where_they_change():
    chart = dice_over_evaluations(book(), 0.1)
    (line,) = chart.panels[0].lines
    # x on a: 0.8, 0.6, 0.5; on b: 0.7, 0.4, and 0.4 to the end.
    assert line.name == "x"
    assert [point.x for point in line.points] == [1, 2, 3]
    assert [point.y for point in line.points] == pytest.approx([0.75, 0.5, 0.45])
    flat = replace(book()[6], history=(0.5, 0.5, 0.4, 0.4, 0.4, 0.4))
    (line,) = dice_over_evaluations([clean("a"), flat]).panels[0].lines
    assert [(point.x, point.y) for point in line.points] == [(1, 0.5), (3, 0.4), (6, 0.4)]
    assert line.at(5.0, steps=True).y == 0.4
    assert line.at(2.0, steps=True).y == 0.5


def test_a_course_is_told_with_its_area_and_says_that_it_is_of_arrays():
    """x: 0.75, 0.5, 0.45 in the mean over a and b: by trapezoids (0.625 + 0.475) / 2."""
    chart = dice_over_evaluations(book(), 0.1)
    (line,) = chart.panels[0].lines
    assert line.figure == "AUC 0.550"
    assert line.told == "x (AUC 0.550)"
    assert "array" in chart.y.name
    assert any("tensor" in note for note in chart.notes)
    assert not any("written files" in note for note in chart.notes)
    assert chart.table().rows[0].cells[1] == "x (AUC 0.550)"
    written = [replace(one, deployed=(0.5, 0.5), deployed_clean=(0.5, 0.5)) for one in book()]
    assert any("written files" in note for note in dice_over_evaluations(written).notes)
    assert not any("in one go" in note for note in chart.notes)
    joint = dice_over_evaluations([replace(one, chained=one.kind == "attack") for one in written])
    assert any("AUC cannot be compared" in note for note in joint.notes)
    single = replace(book()[6], history=(0.8, 0.6))
    assert dice_over_evaluations([clean("a"), single]).panels[0].lines[0].figure == "AUC 0.700"


def test_the_largest_size_is_drawn_unless_another_is_asked_for():
    records = [replace(one, history=(0.8, 0.4)) for one in book() if one.kind == "attack"]
    for eps, first in ((None, "m, eps 51/255"), (0.1, "m, eps 25.5/255"), (0.1 + 1e-12, "m, eps 25.5/255")):
        chart = dice_over_evaluations(records, eps)
        assert chart.panels[0].name == first
        assert [panel.name for panel in chart.panels if panel.shown] == [first]
        assert len(chart.panels) == 2
    with pytest.raises(UserError, match=r"eps must be one at which there are attacks, 25\.5/255, 51/255, got 0\.5"):
        dice_over_evaluations(records, 0.5)


def test_long_histories_keep_their_ends():
    long = replace(book()[6], history=tuple(1 - n / 20_000 for n in range(10_000)))
    (line,) = dice_over_evaluations([clean("a"), long]).panels[0].lines
    assert len(line.points) <= 200
    assert (line.points[0].y, line.points[-1].y) == (1, long.history[-1])
    assert all(point.y == long.history[int(point.x) - 1] for point in line.points)


def test_many_systems_are_drawn_in_part_and_all_are_told():
    records = [replace(r, model=f"run-{n:02}") for n in range(20) for r in book()]
    chart = dice_over_eps(records, ENSEMBLES)
    worst = [line for line in chart.panels[0].lines if not line.kind]
    assert len(worst) == 20
    assert sum(line.shown for line in chart.panels[0].lines) == 8
    assert len({(line.colour, line.dash) for line in worst}) == 20
    assert any("8 of 20 systems" in note for note in chart.notes)


def test_many_classes_are_drawn_in_part_those_that_lose_most():
    names = tuple(f"class {n}" for n in range(40))
    fallen = tuple(1 - n / 40 for n in range(40))
    others = {"classes": names, "clean": (1.0,) * 40}
    chart = dice_over_eps([clean("a", dice=(1.0,) * 40, classes=names), record("x", "a", fallen, 0.1, **others)])
    assert len(chart.panels) == 41
    assert [panel.name for panel in chart.panels if panel.shown] == ["Mean over the classes", *names[-11:]]
    assert any("11 of 40 classes" in note for note in chart.notes)


def test_csv_has_every_figure_at_full_precision():
    chart = dice_over_eps([*book(), *weaker()], ENSEMBLES)
    rows = list(csv.DictReader(io.StringIO(chart.csv())))
    points = [point for panel in chart.panels for line in panel.lines for point in line.points]
    assert [float(row["x"]) for row in rows] == [point.x for point in points]
    assert [float(row["y"]) if row["y"] else None for row in rows] == [point.y for point in points]


def test_table_and_description_say_the_figures():
    chart = dice_over_eps(book(), ENSEMBLES)
    table = chart.table()
    assert [column.heading for column in table.columns] == ["Class", "Line", "0", "25.5/255", "51/255"]
    assert table.rows[0].cells == ("Mean over the classes", "m", "0.750 [0.70, 0.80]", "0.350 [0.30, 0.40]",
                                   "0.100 [0.00, 0.20]")  # fmt: skip
    assert table.rows[1].cells[-1] == "n/a"
    assert "m: 0.750 at 0, 0.350 at 25.5/255, 0.100 at 51/255." in chart.description


def test_two_systems_have_two_colours_and_noise_the_dashes():
    lines = dice_over_eps([*book(), *weaker()]).panels[0].lines
    assert [(line.label, line.colour, line.dash) for line in lines] == [
        ("m", 0, 0), ("m: sign noise of the same eps", 0, 1),
        ("n", 1, 0), ("n: sign noise of the same eps", 1, 1),
    ]  # fmt: skip
    assert len(LINES) > 2


def test_a_single_class_is_drawn_once_unless_a_scan_lacks_it():
    others = {"classes": ("spleen",), "clean": (0.9,)}
    attacked = record("x", "a", (0.5,), 0.1, **others)
    both = [clean("a", dice=(0.9,), classes=("spleen",)), attacked]
    assert [panel.name for panel in dice_over_eps(both).panels] == ["spleen"]
    without = [
        clean("b", dice=(None,), classes=("spleen",)),
        record("x", "b", (None,), 0.1, **others | {"clean": (None,)}),
    ]
    chart = dice_over_eps([*both, *without])
    assert [panel.name for panel in chart.panels] == ["Mean over the classes", "spleen"]
    # Nothing to find and nothing found counts 1 in the mean.
    assert [panel.lines[0].points[1].y for panel in chart.panels] == [0.75, 0.5]


def test_the_axis_of_sizes_says_how_they_are_measured():
    l2 = [replace(one, threat=replace(one.threat, norm="l2")) for one in book()]
    assert "share of the intensity range" in dice_over_eps(book()).x.name
    assert "root of the sum of the squares" in dice_over_eps(l2).x.name
