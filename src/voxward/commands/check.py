"""voxward check: read every case of a dataset and report all problems at once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from voxward.core.choices import Reading
from voxward.data.check import CheckReport, Problem, check_dataset
from voxward.data.dicom.door import Converted, Wanted, converted, is_dicom_folder
from voxward.data.formats import declared
from voxward.data.nan import dataset_reading_nan
from voxward.data.places import dataset_within
from voxward.data.remarks import collected
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
    return _of_volumes(dataset, workers, reading)


def _of_volumes(dataset: Path | str, workers: int, reading: Reading) -> CheckReport:
    opened, refused = declared(dataset, reading.follow_links)
    opened = dataset_within(dataset_reading_nan(opened, nan_for((), reading)), tolerance_for((), reading))
    return check_dataset(opened, workers, refused=refused, fail_fast=reading.fail_fast)


def _of_dicom(folder: Path, workers: int, reading: Reading) -> CheckReport:
    """The report on volumes of DICOM files, which calls them after the folders of these files."""
    with ExitStack() as stack:
        with collected() as remarks:
            made = stack.enter_context(converted([folder], Wanted(reading=reading)))
        problems = [Problem(failure.case, "error", "DICOM", failure.reason) for failure in made.failures]
        problems += [Problem(_case_of(one, made, folder), "warning", "DICOM", one) for one in remarks]
        if not made.cases:
            return CheckReport(tuple(problems), len(problems), folder)
        found = _of_volumes(made.root, workers, reading)
        problems += [replace(problem, message=made.said(problem.message)) for problem in found.problems]
    return CheckReport(tuple(problems), found.cases + len(made.failures), folder)


def _case_of(remark: str, made: Converted, folder: Path) -> str:
    """The case whose file a remark begins with."""
    return next((id for id, place in made.cases.items() if remark.startswith(f"{place}")), folder.name)
