"""Cases of DICOM files become a dataset of volumes; a case that fails does not cost the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from voxward.core.case import Case
from voxward.core.choices import DicomSeries
from voxward.core.failures import Failures
from voxward.core.files import atomic_write, write_json
from voxward.core.progress import Progress, silent
from voxward.data.dicom.cases import DicomCase, case_id, names_in, open_case
from voxward.data.dicom.dataset import BOOK, Over, fitting, write_case
from voxward.data.made_dataset import DatasetWriter, MadeDataset, refuse_classes

Entry = Mapping[str, Any]
"""What a case was made of, as `dicom.json` says it."""


def make_dataset(
    folders: Sequence[Path],
    target: Path,
    wanted: DicomSeries,
    *,
    classes: Sequence[str] = (),
    failures: Failures | None = None,
    progress: Progress = silent,
) -> MadeDataset:
    """Write a dataset of the cases that can be read; it appears as a whole.

    Args:
        folders: The folder of each case.
        target: The folder of the dataset.
        wanted: Which series of a case are read.
        classes: The segments or structures that become classes; empty: all, sorted by name, which must not overlap.
        failures: Gets the cases that fail.
        progress: Told about cases.

    Raises:
        UserError: The names cannot be classes.
        CasesFailed: No case is left; nothing is written then.
    """
    kept = Failures() if failures is None else failures
    opened = opened_cases(folders, kept, lambda folder: open_case(folder, wanted))
    if not opened:
        kept.raise_any(len(folders))
    names = tuple(classes) or tuple(sorted({name for held in opened.values() for name in held}))
    refuse_classes(names)
    with atomic_write(target) as unfinished:
        unfinished.mkdir()
        writer = DatasetWriter(unfinished, target.resolve().name, names, next(iter(opened)).channels)
        over = Over.MEANT if classes else Over.REFUSED
        book = write_cases([*opened], lambda case: write_case(writer, case, over), kept, progress)
        result = writer.finish(target)
        if not book:
            kept.raise_any(len(folders))
        write_json(unfinished / BOOK, {"format": 1, "cases": book})
    return result


def opened_cases(
    folders: Sequence[Path],
    failures: Failures,
    open: Callable[[Path], DicomCase],
    before: Collection[DicomCase] = (),
) -> dict[DicomCase, tuple[str, ...]]:
    """Return the cases that can be opened, each with the names that its ground truth describes.

    Args:
        folders: The folder of each case.
        failures: Gets the cases that cannot be opened, or have other channels than those before them.
        open: Opens a folder.
        before: Cases that were opened before.
    """
    opened = dict[DicomCase, tuple[str, ...]]()
    for folder in folders:
        with failures.of(Case(case_id(folder), (folder,))):
            case = fitting(open(folder), [*before, *opened])
            opened[case] = names_in(case)
    return opened


def write_cases(
    cases: Sequence[DicomCase], write: Callable[[DicomCase], Entry], failures: Failures, progress: Progress
) -> dict[str, Entry]:
    """Write cases, and return by their ids what each was made of.

    Args:
        cases: The cases.
        write: Writes one, and returns what it was made of.
        failures: Gets the cases that fail.
        progress: Told about cases.
    """
    book = dict[str, Entry]()
    for n, case in enumerate(cases):
        progress("from-dicom", n, len(cases), running=case.id)
        with failures.of(Case(case.id, (case.folder,))):
            book[case.id] = write(case)
    progress("from-dicom", len(cases), len(cases))
    return book
