"""The files that users have stay the same to the byte: every table against the text it had before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.test_architectures import FOUND
from tests.robustness.books import book, clean, record
from voxward.core.outputs import Outputs
from voxward.metrics.score import CaseMetrics, ClassMetrics
from voxward.report.architectures import architectures_markdown
from voxward.report.hardening import Hardening, hardening_text
from voxward.report.robust_classes import classes_text
from voxward.report.robustness import csv_text, leaderboard_report, markdown_text, robustness_report
from voxward.report.tables import markdown_table
from voxward.robustness.record import Record
from voxward.systems.evaluate import Evaluation, summarise_cases

EXPECTED = Path(__file__).with_name("expected")
ENSEMBLES = {"first": ("x",), "strong": ("x", "y", "absent")}
FAILED = [record("noise", case, (0.1, 0.1), 0.2) for case in "ab"]
FAB = [record("fab-dice", c, (0.3, 0.3), 8 / 255, breaking_eps=e) for c, e in (("a", 0.02), ("b", 0.06))]


def weaker() -> list[Record]:
    """A second model: the same clean, at most 0.1 everywhere under attack."""
    return [
        replace(r, model="n|1", adversarial=(0.1, None) if r.kind == "attack" else r.adversarial, history=())
        for r in book()
    ]


def one(dice: float | None, hd95: float | None, sensitivity: float | None = 0.75) -> ClassMetrics:
    half = None if dice is None else dice / 2
    return ClassMetrics(dice, half, sensitivity, 0.98765, hd95, 0.625, 10, 20)


def evaluation() -> Evaluation:
    absent = ClassMetrics(None, None, None, None, None, None, 0, 0)
    return summarise_cases(
        [
            CaseMetrics("case_a", {"liver": one(0.8, 1.5), "a|b": absent, "never": absent}),
            CaseMetrics("case_b", {"liver": one(0.6123456789, 2.5, None), "a|b": one(0.2, None), "never": absent}),
            CaseMetrics("case_c", {"liver": one(1 / 3, 12.25), "a|b": one(0.0, 80.0), "never": absent}),
        ],
        "ignore",
        1.5,
    )


def metrics_file(name: str, folder: Path) -> str:
    evaluation().save(Outputs(folder, "metrics"))
    return (folder / name).read_text(encoding="utf-8")


def hardened() -> list[Record]:
    return [
        clean("a", "old"), clean("b", "old"), clean("a", "new"), clean("c", "new", (0.8, 0.8)),
        record("x", "a", (0.3, 0.3), 8 / 255, "old"), record("y", "a", (0.7, 0.7), 8 / 255, "old"),
        record("x", "b", (0.5, 0.5), 8 / 255, "old"), record("x", "a", (0.6, 0.6), 8 / 255, "new"),
        record("x", "c", (0.2, 0.2), 0.03, "new"),
    ]  # fmt: skip


FILES: dict[str, Callable[[Path], str]] = {
    "metrics.md": lambda folder: markdown_table(evaluation()),
    "metrics.csv": lambda folder: metrics_file("metrics.csv", folder),
    "metrics.json": lambda folder: metrics_file("metrics.json", folder),
    "robustness.md": lambda folder: markdown_text(robustness_report([*book(), *weaker()], ENSEMBLES)),
    "robustness.csv": lambda folder: csv_text(robustness_report([*book(), *weaker()], ENSEMBLES)),
    "distrusted.md": lambda folder: markdown_text(robustness_report([*book(), *FAILED], {})),
    "distrusted.csv": lambda folder: csv_text(robustness_report([*book(), *FAILED], {})),
    "leaderboard.md": lambda folder: markdown_text(leaderboard_report([*weaker(), *book(), *FAB], None)),
    "leaderboard.csv": lambda folder: csv_text(leaderboard_report([*weaker(), *book(), *FAB], None)),
    "leaderboard-ensemble.md": lambda folder: markdown_text(leaderboard_report([*weaker(), *book()], ("x", "y"))),
    "classes.md": lambda folder: classes_text([*book(), *weaker()], False),
    "hardening-new.md": lambda folder: hardening_text(hardened(), Hardening("old", "new", 600.0, 300.0), False),
    "architectures.md": lambda folder: architectures_markdown(FOUND, (40, 56, 1)),
}


@pytest.mark.parametrize("name", list(FILES))
def test_a_file_is_what_it_was(name: str, tmp_path: Path) -> None:
    assert FILES[name](tmp_path) == (EXPECTED / name).read_text(encoding="utf-8")


def test_metrics_json_is_json() -> None:
    assert json.loads((EXPECTED / "metrics.json").read_text(encoding="utf-8"))["policy"] == "ignore"
