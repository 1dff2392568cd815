"""voxward check: read every case of a dataset and report all problems at once."""

from __future__ import annotations

from pathlib import Path

from voxward.data.check import CheckReport, check_dataset
from voxward.data.formats import declared


def check(dataset: Path | str, *, workers: int = 2) -> CheckReport:
    """Read all cases of a dataset, and report every problem that is found. Nothing is written.

    Args:
        dataset: The folder of the dataset.
        workers: The number of cases that are read at once.

    Returns:
        A report of all errors and warnings, also of names that `open_dataset` refuses.

    Raises:
        UserError: The folder is no dataset at all.
        FileNotFoundError: There is no such folder.

    Example:
        >>> import voxward
        >>> report = voxward.check("Task04_Hippocampus")  # doctest: +SKIP
    """
    opened, refused = declared(dataset)
    return check_dataset(opened, workers, refused=refused)
