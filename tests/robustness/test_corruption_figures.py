"""Figures and checks of corruptions from records made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.robustness.books import clean, record
from voxward.report.corruption_chart import dice_over_severity
from voxward.report.corruptions import corruption_summary, corruption_table
from voxward.robustness.corrupted import Corrupted
from voxward.robustness.corruption_checks import corruption_findings
from voxward.robustness.corruption_figures import CorruptionView, of_corruptions, without_corruptions
from voxward.robustness.record import Surface
from voxward.robustness.require import Measured, judge_requirements
from voxward.robustness.summary import View

ABOUT = Corrupted("mine", 3, 1, ({},), False, (1.0, 1.0, 1.0), 0.5, 0.0)


def untouched(case, dice, model="m"):
    return clean(case, model, (dice,), deployed=(dice,), classes=("liver",), mode="volume")


def corrupted(name, case, severity, dice, model="m", **others):
    options = {"deployed": (dice,), "deployed_clean": (0.8,), "classes": ("liver",), "clean": (0.8,), **others}
    made = record(name, case, (dice,), model=model, kind="corruption", corruption=ABOUT, mode="volume", **options)
    return replace(made, eps=float(severity))


def book(model="m", shift=0.0):
    """Clean: a 0.8, b 0.6. blur: 0.7, 0.5 at 1; 0.5, 0.3 at 2. move: 0.6, 0.6 at 1; 0.4, 0.2 at 2."""
    dice = {
        ("blur", 1): (0.7, 0.5), ("blur", 2): (0.5, 0.3), ("move", 1): (0.6, 0.6), ("move", 2): (0.4, 0.2),
    }  # fmt: skip
    return [
        untouched("a", 0.8, model),
        untouched("b", 0.6, model),
        *(
            corrupted(name, case, severity, value + shift, model)
            for (name, severity), values in dice.items()
            for case, value in zip("ab", values, strict=True)
        ),
    ]


def test_means_gap_and_the_worst_corruption():
    view = CorruptionView(book())
    assert (view.corruptions, view.severities) == (("blur", "move"), (1, 2))
    assert view.corrupted("m") == pytest.approx({"a": 0.55, "b": 0.4})
    assert view.gap("m") == pytest.approx({"a": 0.25, "b": 0.2})
    name, summary = view.worst("m")
    assert (name, summary.mean) == ("move", pytest.approx(0.45))
    assert view.relative("m", "blur", 2) == pytest.approx(0.4 / 0.7)
    assert view.relative("m", "blur") == pytest.approx(0.5 / 0.7)


def test_the_weights_are_those_of_rood_mri():
    view = CorruptionView(book())
    first, second = 2 / 3, 4 / 9
    blur = (0.7 + first * 0.6 + second * 0.4) / (1 + first + second)
    move = (0.7 + first * 0.6 + second * 0.3) / (1 + first + second)
    assert view.weighted("m") == pytest.approx((blur + move) / 2)
    lost = [(first * 0.1 + second * 0.3) / (first + second), (first * 0.1 + second * 0.4) / (first + second)]
    assert view.degradation("m") == pytest.approx(sum(lost) / 2)


def test_errors_are_compared_with_a_reference_system():
    records = [*book(), *book("n", 0.1)]
    view = CorruptionView(records)
    blur = (0.3 + 0.5 + 0.5 + 0.7) / (0.2 + 0.4 + 0.4 + 0.6)
    move = (0.4 + 0.4 + 0.6 + 0.8) / (0.3 + 0.3 + 0.5 + 0.7)
    assert view.error_ratio("m", "n") == pytest.approx((blur + move) / 2)
    assert view.error_ratio("m", "m") == pytest.approx(1)
    table = corruption_summary(records, reference="n")
    assert table.columns[-1].heading == "error ratio"
    assert [row.cells[-1] for row in table.rows] == [f"{(blur + move) / 2:.2f}", "1.00"]


def test_a_perfect_reference_has_no_ratio():
    perfect = [untouched("a", 1.0, "n"), corrupted("blur", "a", 1, 1.0, "n")]
    assert CorruptionView([*book(), *perfect]).error_ratio("m", "n") is None


def test_figures_of_several_seeds_are_means_over_cases_and_not_over_seeds():
    records = [untouched("a", 0.8), untouched("b", 0.8), corrupted("blur", "b", 1, 0.9)]
    records += [corrupted("blur", "a", 1, value, seed=n) for n, value in enumerate((0.1, 0.3))]
    assert CorruptionView(records).dice("m", "blur", 1) == pytest.approx({"a": 0.2, "b": 0.9})
    assert corruption_table(records).data[0][4] == pytest.approx(0.55)


def test_the_chart_begins_with_the_clean_cases():
    chart = dice_over_severity([*book(), *book("n", 0.1)])
    assert [panel.name for panel in chart.panels] == ["m", "n"]
    assert [line.name for line in chart.panels[0].lines] == ["blur", "move"]
    points = chart.panels[0].lines[0].points
    assert [point.x for point in points] == [0, 1, 2]
    assert [point.y for point in points] == pytest.approx([0.7, 0.6, 0.4])


def test_hd95_counts_only_where_it_is_defined():
    records = [
        untouched("a", 0.8), untouched("b", 0.8),
        corrupted("blur", "a", 1, 0.5, surface=Surface(4.0, None)),
        corrupted("blur", "b", 1, 0.5, surface=Surface(None, None)),
    ]  # fmt: skip
    summary = CorruptionView(records).hd95("m", "blur", 1)
    assert (summary.mean, summary.n, summary.left_out) == (4.0, 1, 1)
    assert corruption_table(records).data[0][-1] == 1


def test_corruptions_belong_to_no_worst_case_of_attacks():
    records = [*book(), record("x", "a", (0.75,), 0.1, deployed=(0.75,), classes=("liver",), clean=(0.8,))]
    assert View(records, deployed=True).eps == (0.1,)
    assert {key.eps for key in View(records, deployed=True).worst()} == {0.1}
    assert len(of_corruptions(records)) == 8
    assert len(without_corruptions(records)) == 3


def test_a_requirement_may_ask_for_the_corrupted_dice():
    verdicts = judge_requirements(
        ["corrupted_dice >= 0.47", "corrupted_dice >= 0.48"], Measured(View(book(), deployed=True)), ["m"]
    )
    assert [one.met for one in verdicts] == [True, False]
    assert verdicts[0].value == pytest.approx(0.475)
    (unknown,) = judge_requirements(
        ["corrupted_dice >= 0.1"], Measured(View([untouched("a", 0.8)], deployed=True)), ["m"]
    )
    assert (unknown.value, unknown.met) == (None, False)


def cases_of(values, first=1):
    names = [f"c{n}" for n in range(6)]
    rows = [untouched(case, 0.8) for case in names]
    return rows + [
        corrupted("blur", case, first + n, value) for n, value in enumerate(values) for case in names
    ]  # fmt: skip


def test_a_dice_that_rises_with_the_severity_is_a_finding():
    def found(values):
        return {one.name: one.passed for one in corruption_findings("m", cases_of(values), 0.01)}["severity"]

    assert found([0.7, 0.7, 0.4]) is True
    assert found([0.4, 0.7]) is False


def test_a_change_at_severity_0_is_a_finding():
    def found(dice, changed):
        about = Corrupted("mine", 1, 0, (), False, (1.0, 1.0, 1.0), changed, 0.0)
        row = record("blur", "a", (dice,), kind="corruption", corruption=about, deployed=(dice,), classes=("liver",),
                     deployed_clean=(0.8,), clean=(0.8,), mode="volume")  # fmt: skip
        return corruption_findings("m", [untouched("a", 0.8), row], 0.01)[0].passed

    assert found(0.8, 0.0) is True
    assert found(0.8, 0.01) is False
    assert found(0.7999, 0.0) is False
