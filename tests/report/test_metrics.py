"""What the table of an evaluation says is what the evaluation holds."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from voxward.core.document import without_format
from voxward.core.outputs import Outputs
from voxward.metrics.policies import Scoring
from voxward.metrics.registry import METRICS
from voxward.metrics.score import CaseMetrics, ClassMetrics
from voxward.report.metrics import METRICS_FILES, metrics_table, save_metrics
from voxward.systems.evaluate import Evaluation, summarise_cases

ABSENT = ClassMetrics(dict.fromkeys(METRICS), 0, 0)


def metrics(*values: float | None) -> ClassMetrics:
    return ClassMetrics(dict(zip(METRICS, values, strict=True)), 10, 20)


def scored(dice: float, hd95: float | None = 1.5) -> ClassMetrics:
    return metrics(dice, dice / 2, 0.75, 0.9876, hd95, 0.625)


@pytest.fixture
def evaluation() -> Evaluation:
    cases = [
        CaseMetrics("case_a", {"liver": scored(0.8), "tumour": ABSENT}),
        CaseMetrics("case_b", {"liver": scored(0.6, 2.5), "tumour": scored(0.2, None)}),
    ]
    return summarise_cases(cases, Scoring())


def markdown_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_metrics_table(form: str, evaluation: Evaluation) -> None:
    if form == "terminal":
        table = metrics_table(evaluation)
        rows = [list(row.narrow) for row in table.rows]
        caption = " ".join([table.caption, *(column.short or column.heading for column in table.columns)])
    else:
        caption = metrics_table(evaluation).markdown()
        rows = markdown_rows(caption)[2:]
    # The terminal has no room for a third digit of the interval.
    low, high = ("0.60", "0.80") if form == "terminal" else ("0.600", "0.800")
    assert [row[0] for row in rows] == ["liver", "tumour", "mean"]
    assert rows[0][1:] == (
        [f"0.700 [{low}, {high}]", "0.141", "0.600", "0.800", "0.350", "0.750", "0.9876", "2.00", "0.625", "2"]
    )
    assert rows[1][1:] == (
        [
            "0.200",  # a single scan has no interval
            "0.000",
            "0.200",
            "0.200",
            "0.100",
            "0.750",
            "0.9876",
            "n/a",
            "0.625",
            "1",
        ]
    )
    # Case means 0.8 and (0.6 + 0.2) / 2.
    assert rows[2][1:5] == [f"0.600 [{low.replace('6', '4')}, {high}]", "0.283", "0.400", "0.800"]
    assert all(words in " ".join(caption.split()) for words in ("NSD 2 mm", "2 cases", "empty masks: ignore"))


def test_the_terminal_table_needs_no_more_than_80_columns(evaluation: Evaluation) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(metrics_table(evaluation).terminal())
    lines = console.export_text().splitlines()
    liver = next(line for line in lines if line.strip().startswith("liver"))
    assert " ".join(liver.split()) == "liver 0.700 [0.60, 0.80] 0.141 0.600 0.800 0.350 0.750 0.9876 2.00 0.625 2"


def test_names_keep_their_place_beside_metrics_of_fewer_cases() -> None:
    one = metrics(0.6, 0.3, None, 0.9876, None, 0.625)
    cases = [CaseMetrics("case_a", {"liver": scored(0.8)}), CaseMetrics("case_b", {"liver": one})]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(metrics_table(summarise_cases(cases, Scoring())).terminal())
    liver, below = next(
        pair for pair in pairwise(console.export_text().splitlines()) if pair[0].strip().startswith("liver")
    )
    assert liver.split()[:2] == ["liver", "0.700"]
    assert below.split() == ["(n", "1)"] * 2


def test_a_class_that_no_case_defines() -> None:
    text = metrics_table(summarise_cases([CaseMetrics("a", {"x": ABSENT})], Scoring("ignore", 1.0))).markdown()
    assert markdown_rows(text)[2] == ["x", *["n/a"] * 9, "0"]


def test_what_is_saved_holds_every_number(evaluation: Evaluation, tmp_path: Path) -> None:
    save_metrics(evaluation, Outputs(tmp_path, "metrics"))
    assert {path.name for path in tmp_path.iterdir()} == {*METRICS_FILES, ".voxward"}
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    places = [("case_a", "liver"), ("case_a", "tumour"), ("case_b", "liver"), ("case_b", "tumour")]
    assert [(row["case"], row["class"]) for row in rows] == places
    assert [float(rows[2][metric]) for metric in METRICS] == [0.6, 0.3, 0.75, 0.9876, 2.5, 0.625]
    assert [rows[1][metric] for metric in METRICS] == [""] * len(METRICS)
    saved = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert without_format(saved, "metrics.json") == json.loads(json.dumps(evaluation.to_data()))
