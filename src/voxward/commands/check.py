"""voxward check: read every case of a dataset and report all problems at once."""

from __future__ import annotations

from pathlib import Path

from voxward.core.choices import Reading
from voxward.data.check import CheckReport, check_dataset
from voxward.data.formats import declared
from voxward.data.nan import dataset_reading_nan
from voxward.data.places import dataset_within
from voxward.systems.nan import nan_for, tolerance_for


def check(dataset: Path | str, *, workers: int = 2, reading: Reading = Reading()) -> CheckReport:
    """Read all cases of a dataset, and report every problem that is found. Nothing is written.

    Args:
        dataset: The folder of the dataset.
        workers: The number of cases that are read at once.
        reading: What is done about NaN: `zero` makes it a warning. And whether the first case with an error ends the
            check, so that a large dataset need not be read to its end.

    Returns:
        A report of all errors and warnings, also of names that `open_dataset` refuses.

    Raises:
        UserError: The folder is no dataset at all, or a case has an error and `reading.fail_fast` is set.
        FileNotFoundError: There is no such folder.

    Example:
        >>> import voxward
        >>> report = voxward.check("Task04_Hippocampus")  # doctest: +SKIP
    """
    reading.refuse_channels()
    opened, refused = declared(dataset, reading.follow_links)
    opened = dataset_within(dataset_reading_nan(opened, nan_for((), reading)), tolerance_for((), reading))
    return check_dataset(opened, workers, refused=refused, fail_fast=reading.fail_fast)
