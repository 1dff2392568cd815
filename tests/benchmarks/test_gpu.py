"""The benchmark of a GPU: its limits, and what it writes of parts that fail, take too long, or end well."""

import sys
from pathlib import Path

import pytest
from benchmarks.gpu import OWN, Given, Part, parts, section


def test_all_parts_together_take_nine_minutes_at_most(tmp_path):
    found = parts(Given(Path("data"), tmp_path, "cuda", small=False))
    assert sum(part.seconds for part in found.values()) <= 540
    assert set(OWN) <= set(found)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('| a | 1 |')", ["## Title", "| a | 1 |", "s of at most 20 s."]),
        ("print('half', flush=True); raise SystemExit('no memory')", ["half", "exit code 1", "    no memory"]),
    ],
)
def test_a_section_holds_what_was_printed_and_how_it_ended(code, says):
    text, well = section(Part(20, "Title", [sys.executable, "-c", code]))
    assert well is ("SystemExit" not in code)
    assert [part for part in says if part not in text] == []


def test_a_part_that_takes_too_long_keeps_what_it_printed():
    code = "import time; print('first', flush=True); time.sleep(60)"
    text, well = section(Part(3, "Title", [sys.executable, "-S", "-c", code]))
    assert not well
    assert "first" in text
    assert "It was stopped after its 3 s" in text


@pytest.mark.slow
def test_the_rehearsal_runs(tmp_path):
    given = Given(Path("data"), tmp_path, "cpu", small=True)
    for name in ("wide", "step", "volume"):
        lines = list(OWN[name](given))
        assert len(lines) > 1, name
