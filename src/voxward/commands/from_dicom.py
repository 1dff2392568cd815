"""voxward from-dicom: a dataset of volumes from folders of DICOM files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxward.core.case import Case
from voxward.core.choices import DicomSeries, Output
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.data.dicom.cases import DicomCase, case_folders, case_id, names_in, open_case
from voxward.data.dicom.dataset import BOOK, fitting, refuse_names, write_case
from voxward.data.made_dataset import DatasetWriter, MadeDataset


def from_dicom(
    inputs: Sequence[Path | str] | Path | str,
    *,
    out: Path | str | Output,
    wanted: DicomSeries = DicomSeries(),
    classes: Sequence[str] = (),
    fail_fast: bool = False,
) -> MadeDataset:
    """Make a dataset of volumes from folders of DICOM files, which every command then reads.

    Slices are sorted by where they lie; a series with a missing slice, several echoes or mixed orientations is refused
    by name. Where the gantry was tilted, the affine says so. CT becomes Hounsfield units; other images what their files
    call rescaled. Nothing is de-identified: names of folders and series identifiers are kept, names of patients are not
    read.

    Args:
        inputs: Folders. One that holds DICOM files is a case, and of any other each folder in it is one, which is named
            after it; it holds the image series, and may hold one segmentation (SEG) or one set of contours (RTSTRUCT).
        out: The folder of the dataset, or a `voxward.Output`. It gets imagesTr/, labelsTr/, imagesTs/ (cases without
            ground truth), dataset.json, and dicom.json, which says what each case was made of.
        wanted: Which series of a case are read.
        classes: The segments or structures that become classes 1, 2, ...; where they overlap, later ones are written
            over earlier ones. Empty: all, sorted by name, which must not overlap.
        fail_fast: Whether the first case that fails stops the others.

    Returns:
        What was written.

    Raises:
        UserError: There is no case, two share a name, or a file would be replaced; nothing is written then.
        CasesFailed: Cases failed; its `result` is the dataset of the others.
        MissingPackageError: pydicom is not installed.

    Example:
        >>> voxward.from_dicom("scans", out="dataset", classes=["liver", "tumour"])
    """
    output = Output.of(out)
    folders = case_folders([Path(one) for one in ([inputs] if isinstance(inputs, str | Path) else inputs)])
    refuse_names(folders)
    failures, opened = Failures(fail_fast), list[DicomCase]()
    for folder in folders:
        with failures.of(Case(case_id(folder), (folder,))):
            opened.append(fitting(open_case(folder, wanted), opened))
    names = tuple(classes) or tuple(sorted({name for case in opened for name in names_in(case)}))
    if len({*names, "background"}) <= len(names):
        raise UserError(f"classes must be named once each, and none background, got {', '.join(names)}")
    writer, book = DatasetWriter(output, names, opened[0].channels if opened else ()), dict[str, Any]()
    writer.check([(case.id, case.truth is not None) for case in opened])
    writer.top.check([BOOK])
    for n, case in enumerate(opened):
        output.progress("from-dicom", n, len(opened), running=case.id)
        with failures.of(Case(case.id, (case.folder,))):
            book[case.id] = write_case(writer, case, over=bool(classes))
    output.progress("from-dicom", len(opened), len(opened))
    result = writer.finish()
    if book:
        writer.top.json(BOOK, {"format": 1, "cases": book})
    failures.raise_any(len(folders), result if result.cases else None)
    return result
