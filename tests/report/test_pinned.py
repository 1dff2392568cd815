"""The files that users have stay the same to the byte: every table against the text it had before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.test_architectures import FOUND
from tests.robustness.books import book, clean, record
from voxward.core.outputs import Outputs
from voxward.metrics.policies import Scoring
from voxward.metrics.registry import METRICS
from voxward.metrics.score import CaseMetrics, ClassMetrics
from voxward.report.architectures import architectures_table
from voxward.report.classes import classes_table
from voxward.report.hardening import Hardening, hardening_table
from voxward.report.leaderboard import leaderboard_table
from voxward.report.metrics import METRICS_FILES, save_metrics
from voxward.report.robustness import robustness_table
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
    values = (dice, half, sensitivity, 0.98765, hd95, 0.625)
    return ClassMetrics(dict(zip(METRICS, values, strict=True)), 10, 20)


def evaluation() -> Evaluation:
    absent = ClassMetrics(dict.fromkeys(METRICS), 0, 0)
    return summarise_cases(
        [
            CaseMetrics("case_a", {"liver": one(0.8, 1.5), "a|b": absent, "never": absent}),
            CaseMetrics("case_b", {"liver": one(0.6123456789, 2.5, None), "a|b": one(0.2, None), "never": absent}),
            CaseMetrics("case_c", {"liver": one(1 / 3, 12.25), "a|b": one(0.0, 80.0), "never": absent}),
        ],
        Scoring("ignore", 1.5),
    )


def hardened() -> list[Record]:
    return [
        clean("a", "old"), clean("b", "old"), clean("a", "new"), clean("c", "new", (0.8, 0.8)),
        record("x", "a", (0.3, 0.3), 8 / 255, "old"), record("y", "a", (0.7, 0.7), 8 / 255, "old"),
        record("x", "b", (0.5, 0.5), 8 / 255, "old"), record("x", "a", (0.6, 0.6), 8 / 255, "new"),
        record("x", "c", (0.2, 0.2), 0.03, "new"),
    ]  # fmt: skip


BOTH = [*book(), *weaker()]
FILES: dict[str, Callable[[], str]] = {
    "robustness.md": robustness_table(BOTH, ENSEMBLES).markdown,
    "robustness.csv": robustness_table(BOTH, ENSEMBLES).csv,
    "distrusted.md": robustness_table([*book(), *FAILED], {}).markdown,
    "distrusted.csv": robustness_table([*book(), *FAILED], {}).csv,
    "leaderboard.md": leaderboard_table([*weaker(), *book(), *FAB]).markdown,
    "leaderboard.csv": leaderboard_table([*weaker(), *book(), *FAB]).csv,
    "leaderboard-ensemble.md": leaderboard_table([*weaker(), *book()], ("x", "y")).markdown,
    "classes.md": classes_table(BOTH, False).markdown,
    "hardening-new.md": hardening_table(hardened(), Hardening("old", "new", 600.0, 300.0), False).markdown,
    "architectures.md": architectures_table(FOUND, (40, 56, 1)).markdown,
}


@pytest.mark.parametrize("name", list(FILES))
def test_a_file_is_what_it_was(name: str) -> None:
    assert FILES[name]() == (EXPECTED / name).read_text(encoding="utf-8")


def test_the_metrics_files_are_what_they_were(tmp_path: Path) -> None:
    save_metrics(evaluation(), Outputs(tmp_path, "metrics"))
    for name in METRICS_FILES:
        assert (tmp_path / name).read_text(encoding="utf-8") == (EXPECTED / name).read_text(encoding="utf-8"), name
