from __future__ import annotations

from pathlib import Path

import pytest

from voxward.commands.check import check
from voxward.phantoms.write import write_phantoms


def test_check_reads_every_case_and_names_the_broken_one(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "p", cases=2, size=16)
    assert check(str(tmp_path / "p")).ok
    (tmp_path / "p/labelsTr/phantom_001.nii.gz").unlink()
    report = check(tmp_path / "p", workers=1)
    assert (report.cases, [problem.case for problem in report.errors]) == (2, ["phantom_001"])


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no dataset folder"):
        check(tmp_path)
