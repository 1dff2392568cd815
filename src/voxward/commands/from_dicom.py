"""voxward from-dicom: a dataset of volumes from folders of DICOM files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.choices import DicomSeries
from voxward.core.failures import Failures
from voxward.core.progress import Progress, silent
from voxward.data.dicom.cases import case_folders
from voxward.data.dicom.dataset import refuse_names
from voxward.data.dicom.make import make_dataset
from voxward.data.made_dataset import MadeDataset, refuse_full


def from_dicom(
    inputs: Sequence[Path | str] | Path | str,
    *,
    out: Path | str,
    wanted: DicomSeries = DicomSeries(),
    classes: Sequence[str] = (),
    fail_fast: bool = False,
    progress: Progress = silent,
) -> MadeDataset:
    """Make a dataset of volumes from folders of DICOM files, which every command then reads.

    Slices are sorted by where they lie; a series with a missing slice, several echoes or mixed orientations is refused
    by name. Where the gantry was tilted, the affine says so. CT becomes Hounsfield units; other images what their files
    call rescaled. Nothing is de-identified: names of folders and series identifiers are kept, names of patients are not
    read.

    Args:
        inputs: Folders. One that holds DICOM files is a case, and of any other each folder in it is one, which is named
            after it; it holds the image series, and may hold one segmentation (SEG) or one set of contours (RTSTRUCT).
        out: The folder of the dataset, which must not exist, and appears when all is written: imagesTr/, labelsTr/,
            imagesTs/ (without ground truth), dataset.json, and dicom.json, which says what each case was made of.
        wanted: Which series of a case are read.
        classes: The segments or structures that become classes 1, 2, ...; where they overlap, later ones are written
            over earlier ones. Empty: all, sorted by name, which must not overlap.
        fail_fast: Whether the first case that fails stops the others.
        progress: Told about cases.

    Returns:
        What was written.

    Raises:
        UserError: There is no case, two share a name, or `out` is there; nothing is written then.
        CasesFailed: Cases failed; its `result` is the dataset of the others.
        MissingPackageError: pydicom is not installed.

    Example:
        >>> voxward.from_dicom("scans", out="dataset", classes=["liver", "tumour"])
    """
    target = Path(out)
    refuse_full(target)
    folders = case_folders([Path(one) for one in ([inputs] if isinstance(inputs, str | Path) else inputs)])
    refuse_names(folders)
    failures = Failures(fail_fast)
    result = make_dataset(folders, target, wanted, classes=classes, failures=failures, progress=progress)
    failures.raise_any(len(folders), result)
    return result
