"""voxward check: read every case of a dataset and report all problems at once."""

from __future__ import annotations

from pathlib import Path

from voxward.data.check import CheckReport, check_dataset
from voxward.data.formats import declared


def check(dataset: Path | str, workers: int = 2) -> CheckReport:
    """Open `dataset` and read all its cases, `workers` at once. Nothing is written.

    Raises FileNotFoundError or ValueError when the folder is no dataset at all; every other fault is in the report,
    also names of cases that `open_dataset` refuses.
    """
    opened, refused = declared(dataset)
    return check_dataset(opened, workers, refused=refused)
