"""The training log survives what cuts its last line short."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from voxward.core.errors import UserError
from voxward.core.log_file import csv_line, log_heading, log_row, read_rows
from voxward.training.ledger import read_ledger
from voxward.training.log import read_log

LOG = "step,epoch,training_loss\n1,0,0.5\n2,0,0.25\n"


HEADING = LOG.index("\n") + 1


@pytest.mark.parametrize("cut", range(1, len(LOG) - HEADING + 1))
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "training.csv"
    path.write_text(LOG[:-cut])
    whole = LOG[:-cut].count("\n")
    assert [row["step"] for row in read_log(path)] == [1, 2][: max(whole - 1, 0)]


@pytest.mark.parametrize("left", [0, 1, HEADING - 1])
def test_a_log_without_its_first_line_has_lost_its_rows(tmp_path: Path, left: int) -> None:
    path = tmp_path / "training.csv"
    path.write_text(LOG[:left])
    with pytest.raises(UserError, match=r"training\.csv is damaged: it is cut short in its first line"):
        read_log(path)


def test_a_wrong_line_before_the_last_one_is_still_an_error(tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    path.write_text(LOG.replace("1,0,0.5", "1,0"))
    with pytest.raises(ValueError, match=r"training\.csv has 3 columns, but a row of 2 cells"):
        read_log(path)


def test_the_ledger_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text("step,epoch,case,loss\n1,0,a,0.5\n2,0,a,0.")
    assert read_ledger(path) == {"a": {0: 0.5}}


NAMES, CELLS = ("step", "case", "loss"), (("1", 'a, "x"', "0.5"), ("2", "b\nc", "-1e-05"))
WRITTEN = log_heading(NAMES) + "".join(log_row(NAMES, cells) for cells in CELLS)


def test_rows_come_back_without_their_checksums(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(WRITTEN)
    assert read_rows(path, ("loss",)) == [dict(zip(NAMES, cells, strict=True)) for cells in CELLS]
    assert f"1,{csv_line(CELLS[0][1:2])},0.5," in WRITTEN


def test_one_changed_bit_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    """All bits of a log."""
    path, whole = tmp_path / "log.csv", WRITTEN.encode()
    right = [dict(zip(NAMES, cells, strict=True)) for cells in CELLS]
    for place in range(8 * len(whole)):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        with suppress(UserError):
            found = read_rows(path, ("step",))
            assert found == right
