"""The training log survives what cuts its last line short."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxward.training.ledger import read_ledger
from voxward.training.log import read_log

LOG = "step,epoch,training_loss\n1,0,0.5\n2,0,0.25\n"


@pytest.mark.parametrize("cut", range(1, len(LOG)))
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "training.csv"
    path.write_text(LOG[:-cut])
    whole = LOG[:-cut].count("\n")
    assert [row["step"] for row in read_log(path)] == [1, 2][: max(whole - 1, 0)]


def test_a_wrong_line_before_the_last_one_is_still_an_error(tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    path.write_text(LOG.replace("1,0,0.5", "1,0"))
    with pytest.raises(ValueError, match=r"training\.csv has 3 columns, but a row of 2 cells"):
        read_log(path)


def test_the_ledger_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text("step,epoch,case,loss\n1,0,a,0.5\n2,0,a,0.")
    assert read_ledger(path) == {"a": {0: 0.5}}
