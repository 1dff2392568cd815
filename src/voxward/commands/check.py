"""voxward check: read every case of a dataset and report all problems at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from voxward.core.choices import Reading
from voxward.data.check import CheckReport, Problem, check_dataset
from voxward.data.dicom.door import Wanted, converted, is_dicom_folder
from voxward.data.formats import declared
from voxward.data.nan import dataset_reading_nan
from voxward.data.places import dataset_within
from voxward.systems.nan import nan_for, tolerance_for


def check(dataset: Path | str, *, workers: int = 2, reading: Reading = Reading()) -> CheckReport:
    """Read all cases of a dataset, and report every problem that is found. Nothing is written.

    Args:
        dataset: The folder of the dataset. Or one of DICOM files, which become volumes as `from_dicom` makes them, in a
            folder for the time of the check; a case of which none can be made is an error of the report.
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
    if is_dicom_folder(dataset):
        return _of_dicom(Path(dataset), workers, reading)
    opened, refused = declared(dataset, reading.follow_links)
    opened = dataset_within(dataset_reading_nan(opened, nan_for((), reading)), tolerance_for((), reading))
    return check_dataset(opened, workers, refused=refused, fail_fast=reading.fail_fast)


def _of_dicom(folder: Path, workers: int, reading: Reading) -> CheckReport:
    """The report on volumes of DICOM files, which calls them after the folders of these files."""
    with converted([folder], Wanted(reading=reading)) as made:
        problems = [Problem(failure.case, "error", "DICOM", failure.reason) for failure in made.failures]
        if not made.cases:
            return CheckReport(tuple(problems), len(problems), folder)
        found = check(made.root, workers=workers, reading=reading)
        problems += [replace(problem, message=made.said(problem.message)) for problem in found.problems]
    return CheckReport(tuple(problems), found.cases + len(made.failures), folder)
