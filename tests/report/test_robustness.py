"""What the tables and curves say is what the records hold."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from tests.robustness.books import book, clean, record
from voxward.attacks.threat import ThreatModel
from voxward.core.labels import LabelSet
from voxward.report.robustness import (
    RobustnessReport,
    csv_text,
    leaderboard_report,
    markdown_text,
    rich_table,
    robustness_report,
)
from voxward.report.robustness_figures import curves_figure, iterations_figure, panel_figure
from voxward.robustness.record import Record

ENSEMBLES = {"first": ("x",), "strong": ("x", "y", "absent")}
FAILED = [record("noise", case, (0.1, 0.1), 0.2) for case in "ab"]


def printed(report: RobustnessReport) -> str:
    text = io.StringIO()
    Console(file=text, width=80).print(rich_table(report))
    return text.getvalue()


def weaker() -> list[Record]:
    """A second model: the same clean, at most 0.1 everywhere under attack."""
    return [
        replace(r, model="n", adversarial=(0.1, 0.1) if r.kind == "attack" else r.adversarial, history=())
        for r in book()
    ]


def test_rows_hold_the_hand_made_means() -> None:
    report = robustness_report(book(), ENSEMBLES)
    assert report.columns == ("model", "attack", "0.1", "0.2", "s / case")
    assert [row.cells for row in report.rows] == [
        ("m", "clean", "0.750", "0.750", "2.0"),
        ("m", "clip", "0.746", "0.746", "2.0"),
        ("m", "noise", "0.749", "n/a", "2.0"),
        ("m", "x", "0.450", "0.150", "2.0"),
        ("m", "y", "0.450", "0.150", "2.0"),
        ("m", "first", "0.450 [0.40, 0.50]; 100% / 50%", "0.150 [0.10, 0.20]; 0% / 0%", "2.0"),
        ("m", "strong", "0.350 [0.30, 0.40]; 50% / 0%", "0.100 [0.00, 0.20]; 0% / 0%", "4.0"),
    ]
    assert report.distrust == ()


def test_every_form_says_what_the_numbers_are() -> None:
    report = robustness_report(book(), ENSEMBLES)
    for text in (markdown_text(report), " ".join(printed(report).split())):
        for part in (
            "patch mode", "linf", "share of the intensity window", "m: mu (mean clean Dice) 0.750", "mu / 2 = 0.375",
            "2 cases", "float arrays", "0.5", "empty classes: ignore", "absent (not run)",
        ):  # fmt: skip
            assert part in text, part
        assert "NOT TRUSTWORTHY" not in text
    assert max(map(len, printed(report).splitlines())) <= 80
    for number in ("0.350", "[0.30, 0.40]", "50% / 0%"):
        assert number in printed(report)


def test_markdown_is_a_table() -> None:
    lines = [line for line in markdown_text(robustness_report(book(), ENSEMBLES)).splitlines() if line[:1] == "|"]
    assert {line.count("|") for line in lines} == {6}
    assert lines[1] == "| --- | --- | ---: | ---: | ---: |"
    assert lines[-1].startswith("| **m** | **strong** | **0.350 [0.30, 0.40]; 50% / 0%** |")


def test_csv_holds_full_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(robustness_report(book(), ENSEMBLES)))))
    (strong,) = (row for row in rows if row["attack"] == "strong" and row["eps"] == "0.1")
    assert float(strong["dice"]) == pytest.approx(0.35, abs=1e-12)
    assert (strong["accuracy_half_mu"], strong["accuracy_absolute"], strong["cases"]) == ("0.5", "0.0", "2")
    # Of the noise nothing is known at 0.2: six rows with both eps and one without.
    assert len(rows) == 13
    assert {row["trustworthy"] for row in rows} == {"yes"}


def test_a_failed_check_is_in_every_form() -> None:
    report = robustness_report([*book(), *FAILED], ENSEMBLES)
    for text in (markdown_text(report), " ".join(printed(report).split())):
        assert "NOT TRUSTWORTHY (noise control): m: noise at eps 0.2" in text
    assert csv_text(report).splitlines()[1].endswith(",no")


def test_deployed_dice_is_taken_where_all_have_it() -> None:
    records = [replace(r, deployed=(0.5, 0.25)) for r in book()]
    report = robustness_report(records, {"strong": ("x", "y")})
    assert report.rows[0].cells[2] == report.rows[-2].cells[2] == "0.375"
    assert any("ordinary predictor" in note for note in report.notes)
    assert robustness_report(records, {}, deployed=False).rows[0].cells[2] == "0.750"
    assert robustness_report([*records[:-1], book()[-1]], {}).rows[0].cells[2] == "0.750"


def test_eps_of_255_steps() -> None:
    records = [clean("a"), record("x", "a", (0.5, 0.5), 8 / 255), record("x", "a", (0.5, 0.5), 0.03)]
    assert robustness_report(records, {}).columns[2:4] == ("0.03", "8/255")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"mode": "volume"}, "records of one mode, got patch, volume"),
        ({"threat": ThreatModel(0.1, unit="native")}, "records of one unit, got native, range"),
        ({"threat": ThreatModel(0.1, reference="window")}, "records of one reference"),
        ({"policy": "one"}, "records of one empty-class policy, got ignore, one"),
    ],
)
def test_records_that_do_not_compare_are_refused(other: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        robustness_report([*book(), record("x", "c", (0.5, 0.5), 0.1, **other)], {})


def test_what_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one record"):
        robustness_report([], {})
    with pytest.raises(ValueError, match="no clean control of model 'm'"):
        robustness_report(book()[2:], {})
    with pytest.raises(ValueError, match="ensemble 'strong' needs records of its members"):
        robustness_report(book(), {"strong": ("absent",)})


def test_leaderboard_orders_by_area() -> None:
    report = leaderboard_report([*weaker(), *book()], ("x", "y"))
    assert report.columns == ("rank", "model", "clean", "0.1", "0.2", "area", "breaking eps", "vs first")
    first, second = (row.cells for row in report.rows)
    assert first == ("1", "m", "0.750", "0.350 [0.30, 0.40]", "0.100 [0.00, 0.20]", "0.388", "n/a", "")
    # n is 0.1 everywhere; its area ((0.75 + 0.1) / 2 + 0.1) / 2; m is 0.2 and 0.0 at the largest eps.
    assert second[:3] == ("2", "n", "0.750")
    assert second[5:] == ("0.263", "n/a", "+0.000 [-0.10, +0.10]")
    assert "m" in printed(report)
    assert len(csv_text(report).splitlines()) == 1 + 2 * 3


def test_breaking_eps_is_the_median_over_cases() -> None:
    fab = [record("fab-dice", c, (0.3, 0.3), 0.1, breaking_eps=e) for c, e in (("a", 0.02), ("b", 0.06))]
    assert leaderboard_report([*book(), *fab]).rows[0].cells[6] == "0.04"
    assert leaderboard_report([*book(), fab[0], replace(fab[1], breaking_eps=None)]).rows[0].cells[6] == "unbroken"


def test_curves_are_written(tmp_path: Path) -> None:
    records = [*book(), *weaker()]
    curves_figure(tmp_path / "new" / "curves.png", records, ENSEMBLES)
    iterations_figure(tmp_path / "iterations.png", records)
    iterations_figure(tmp_path / "first.png", records, 0.1)
    assert imread(tmp_path / "new" / "curves.png").shape[1] > 1000
    assert imread(tmp_path / "first.png").shape[0] > 300
    with pytest.raises(ValueError, match=r"eps must be one at which there are attacks, \[0.1, 0.2\], got 0.5"):
        iterations_figure(tmp_path / "iterations.png", records, 0.5)
    with pytest.raises(ValueError, match="at least one record"):
        curves_figure(tmp_path / "curves.png", [])


def test_panel_shows_the_signed_perturbation_on_the_fullest_slice(tmp_path: Path) -> None:
    labels = LabelSet(("background", "organ"), (0, 1))
    image = np.random.default_rng(0).normal(100, 1, (20, 24, 16)).astype(np.float32)
    truth = np.zeros(image.shape, np.uint8)
    truth[4:16, 4:20, 5] = 1
    truth[6, 6, 6] = 1
    adversarial = image.copy()
    # Brighter on the patient's right (left of the picture), darker on the left; only in the slice that is shown.
    adversarial[10:, :, 5] += 3
    adversarial[:10, :, 5] -= 3
    panel_figure(
        tmp_path / "a.png", image, adversarial, truth, truth, np.zeros_like(truth), (1.0, 1.0, 2.0), labels, "eps 3"
    )
    picture = np.asarray(imread(tmp_path / "a.png"))[..., :3]
    strip = picture[:, int(0.2 * picture.shape[1]) : int(0.4 * picture.shape[1])]
    red, blue = strip[..., 0] - strip[..., 2] > 0.2, strip[..., 2] - strip[..., 0] > 0.2
    assert red.sum() > 5000
    assert blue.sum() > 5000
    assert np.argwhere(red)[:, 1].mean() < np.argwhere(blue)[:, 1].mean()
    # Green outlines: the truth and the clean prediction, not the emptied one under attack.
    green = np.linalg.norm(picture - np.array([79, 224, 122]) / 255, axis=-1) < 0.2
    columns = np.argwhere(green[: int(0.85 * len(green))])[:, 1] / picture.shape[1]
    assert 0.38 < columns.min() < columns.max() < 0.82


def test_panel_refuses_other_shapes(tmp_path: Path) -> None:
    image, other = np.zeros((4, 4, 4)), np.zeros((4, 4, 5), np.uint8)
    mask = np.zeros((4, 4, 4), np.uint8)
    labels = LabelSet(("background", "organ"), (0, 1))
    with pytest.raises(ValueError, match=r"clean_mask must have the image's shape \(4, 4, 4\), got \(4, 4, 5\)"):
        panel_figure(tmp_path / "a.png", image, image, mask, other, mask, (1.0, 1.0, 1.0), labels, "t")
