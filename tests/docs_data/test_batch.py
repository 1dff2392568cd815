"""The section on bad files, and the paragraph on NaN, say what the code does."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from voxward.cli import COMMANDS, parser
from voxward.core import errors
from voxward.core.choices import Reading
from voxward.core.errors import CasesFailed, Failure
from voxward.core.labels import LabelSet
from voxward.pipeline.probabilities import certain
from voxward.systems.probability_files import CHANNELS_FILE

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


BAD = section("When one file is bad")
NAN = section("Intensities: normalisation, air, masks, NaN").partition("**NaN.**")[2]


def takes(command: str, flag: str) -> bool:
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)).choices
    return flag in commands[command]._option_string_actions


def names(text: str) -> set[str]:
    return {name for name in re.findall(r"`([a-z-]+)`", text) if name in COMMANDS}


def test_the_commands_that_go_on_take_fail_fast_or_have_no_use_for_it() -> None:
    said = names(BAD.partition("finish\n")[0])
    made = {"from-dicom", "from-masks", "to-dicom"}
    assert said == {"check", "prepare", "predict", "evaluate", "merge", "attack", "cv", *made}
    assert {command for command in COMMANDS if takes(command, "--fail-fast")} == {*said - {"cv"}, "benchmark"}


def test_the_table_of_nan() -> None:
    rows = [row.split("|") for row in re.findall(r"^\|(.*`.*)\|$", NAN, re.MULTILINE)]
    given = {name for row in rows if "--nan zero" in row[1] for name in names(row[0])}
    assert given == {command for command in COMMANDS if takes(command, "--nan")} - {"benchmark"}
    assert Reading(nan="zero").nan == "zero"


def test_the_lines_of_the_list() -> None:
    (most,) = re.findall(r"the first (\d+) of them", BAD)
    failed = CasesFailed([Failure(f"case {n}", "bad") for n in range(int(most) + 3)], 90)
    lines = str(failed).splitlines()
    assert (len(lines), lines[-1].strip()) == (1 + int(most) + 1, "and 3 more")
    assert int(most) == errors._LISTED
    shown = re.search(r"^    failed: (1 of 3 cases failed:)\n {6}(b: .*)$", BAD, re.MULTILINE)
    assert shown is not None
    failure = Failure("b", shown[2].removeprefix("b: "), (Path("scans/b.nii.gz"),))
    assert str(CasesFailed([failure], 3)).split("\n  ") == [shown[1], shown[2]]


def test_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    told = capsys.readouterr().out
    rows = dict(re.findall(r"^\| (\d) \| (.*) \|$", BAD, re.MULTILINE))
    assert sorted(rows) == ["0", "1", "2"]
    assert re.search(r"1 +some cases failed and are listed, the others are done", told)
    assert "every case failed" in told


def test_the_bytes_and_the_file_of_probabilities() -> None:
    (size,) = re.findall(r"(\d) bytes for\nevery voxel and class", BAD)
    assert certain(LabelSet(("background", "a"), (0, 1)), (2, 2, 2)).nbytes == int(size) * 2 * 8
    assert CHANNELS_FILE in BAD
