"""The check of a dataset: all cases are read, all problems are reported at once, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from voxward.core.case import Case, Dataset, Volume
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.files import name_fault
from voxward.core.labels import LabelSet
from voxward.core.plan import Intensities
from voxward.data.check_geometry import Fault, disagreement, geometry_faults, volume_faults
from voxward.data.check_intensities import unplanned_suspicions
from voxward.data.check_labels import label_faults, sides_warning, vanishing
from voxward.data.duplicates import duplicates
from voxward.data.formats.collisions import Refused
from voxward.data.formats.nnunet import UNREAD
from voxward.data.identity import Identity, identity_of, joined
from voxward.data.intensities import measure_intensities
from voxward.data.io import integer_label, read_image, volume_stem
from voxward.data.orphans import Severity, orphans
from voxward.data.parallel import for_each_case
from voxward.data.remarks import collected


@dataclass(frozen=True)
class Problem:
    """One fault of one case.

    Attributes:
        case: The case's id, or the dataset's name for a fault of the whole dataset.
        severity: `error` if the case cannot be used, `warning` if it deserves a look.
        kind: A short name that groups faults, such as `shape`.
        message: What is wrong, with the files and the values.
    """

    case: str
    severity: Severity
    kind: str
    message: str


@dataclass(frozen=True)
class CheckReport:
    """All problems of a dataset.

    Attributes:
        problems: The problems in the order of the cases.
        cases: How many cases were read, those without a label included.
        root: The dataset's folder, for tables with short paths.
    """

    problems: tuple[Problem, ...]
    cases: int
    root: Path | None = field(default=None, compare=False)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that make a case unusable."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Return the problems that are legal but deserve a look."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def ok(self) -> bool:
        """Return whether there are no errors; warnings are allowed."""
        return not self.errors


@dataclass(frozen=True)
class _Measured:
    """What the images of all cases hold, by the cases' ids; it is measured while they are in memory."""

    intensities: dict[str, tuple[Intensities, ...]] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)


def check_dataset(
    dataset: Dataset,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    refused: Sequence[Refused] = (),
    fail_fast: bool = False,
) -> CheckReport:
    """Read every case and report all problems of the dataset.

    Errors are missing, orphan or unreadable files; image and label, or channels, that disagree in shape, spacing or
    affine; a wrong number of channels; label values that are undeclared or no integers; NaN or infinity; a singular
    affine; a volume without voxels; an image that two parts of a split share; and a dataset without labelled cases.
    Warnings are an empty label, one in which nothing is annotated, other images that are there twice, what the
    description declares and the files do not hold, and what `check_intensities` says about the channels.

    Args:
        dataset: The dataset.
        workers: How many cases are read at once.
        progress: A function that is told after each case how many are done, and of how many.
        refused: The entries that `data.formats.declared` left out; each is an error, too.
        fail_fast: Whether the first case with an error ends the check.

    Returns:
        The problems. Nothing is written.

    Raises:
        UserError: `workers` is below 1, or a case has an error and `fail_fast` is set.
    """
    cases, failures = dataset.every, Failures()
    measured = _Measured()
    work = partial(_check_case, dataset, measured, fail_fast=fail_fast)
    found = for_each_case(work, cases, workers, progress, Failures(fail_fast) if fail_fast else failures)
    remarks = [remark for remark in dataset.remarks if remark.kind != UNREAD]  # `orphans` names every such file
    problems = [Problem(dataset.name, "warning", remark.kind, remark.message) for remark in remarks]
    problems += dict.fromkeys(_refusal(dataset, entry) for entry in refused)
    problems += [problem for problems_of_case in found for problem in problems_of_case]
    problems += [Problem(case, *fault) for case, fault in geometry_faults(dataset)]
    identities = {case.id: measured.identities[case.id] for case in cases if case.id in measured.identities}
    problems += [Problem(case, *fault) for case, fault in duplicates(dataset, identities)]
    # Too little memory, or a file that cannot be read: no fault of the content, but the case cannot be used here.
    problems += [Problem(failure.case, "error", "unreadable", failure.reason) for failure in failures.found]
    in_order = {case.id: measured.intensities[case.id] for case in cases if case.id in measured.intensities}
    problems += [
        Problem(dataset.name, "warning", kind, message)
        for kind, message in unplanned_suspicions(dataset.channels, in_order)
    ]
    problems += [Problem(dataset.name, "warning", *found) for found in vanishing(dataset)]
    if (sided := sides_warning(dataset.labels)) is not None:
        problems.append(Problem(dataset.name, "warning", "left and right", sided))
    if not dataset.cases:
        problems.append(Problem(dataset.name, "error", "no cases", f"{dataset.root} declares no labelled case"))
    known = (*cases, *(entry.case for entry in refused if entry.case is not None))
    problems += [
        Problem(volume_stem(orphan.file), orphan.severity, orphan.kind, f"{orphan.file} {orphan.reason}")
        for orphan in orphans(dataset, known)
    ]
    return CheckReport(tuple(problems), len(cases), dataset.root)


def _refusal(dataset: Dataset, entry: Refused) -> Problem:
    if entry.case is None:
        case = dataset.name
    else:
        # Escaped, because a name that is none may hold what moves the cursor.
        case = entry.case.id if name_fault(entry.case.id) is None else repr(entry.case.id)
    return Problem(case, "error", entry.kind, entry.message)


def _check_case(dataset: Dataset, measured: _Measured, case: Case, fail_fast: bool = False) -> list[Problem]:
    """The problems of a case; what its image holds goes into `measured`."""
    problems = [Problem(case.id, *fault) for fault in _case_faults(dataset, case, measured)]
    if fail_fast and (worst := next((problem for problem in problems if problem.severity == "error"), None)):
        raise UserError(f"{worst.kind}: {worst.message}")
    return problems


def _case_faults(dataset: Dataset, case: Case, measured: _Measured) -> Iterator[Fault]:
    faults: list[Fault] = []
    images = [(path, volume) for path in case.images if (volume := _read(path, "image", faults)) is not None]
    label = None if case.label is None else _read(case.label, "label", faults)
    yield from faults
    if images and len(images) == len(case.images):
        measured.identities[case.id] = joined([identity_of(volume) for _, volume in images])
    for path, volume in images:
        yield from _image_faults(path, volume, case.nan_as_zero)
        if len(case.images) > 1 and volume.array.shape[0] != 1:
            yield "error", "channels", f"{path} has {volume.array.shape[0]} channels beside other files of the case"
        yield from disagreement(*images[0], path, volume, case.affine_tolerance)
    channels = [channel for _, volume in images for channel in volume.array]
    if all(channel.size for channel in channels):
        measured.intensities[case.id] = tuple(map(measure_intensities, channels))
    count = len(channels)
    if len(images) == len(case.images) and count != len(dataset.channels):
        yield "error", "channels", f"{count} channels, but the dataset declares {len(dataset.channels)}"
    if label is not None and case.label is not None:
        yield from _label_faults(case.label, label, dataset.labels, _declaring(dataset.root))
        if images:
            yield from disagreement(*images[0], case.label, label, case.affine_tolerance)
            yield from label_faults(case.label, [volume for _, volume in images], label, dataset.labels)


def _read(path: Path, role: str, faults: list[Fault]) -> Volume | None:
    try:
        with collected() as remarks:
            volume = read_image([path])
        faults += [("warning", "file", remark) for remark in remarks]
        return volume
    except FileNotFoundError:
        faults.append(("error", f"missing {role}", f"{path} does not exist"))
    except UserError as error:
        faults.append(("error", f"unreadable {role}", str(error)))
    return None


def _image_faults(path: Path, volume: Volume, nan_as_zero: bool) -> Iterator[Fault]:
    yield from volume_faults(path, volume)
    for n, channel in enumerate(volume.array):
        if not channel.size:
            continue
        floating = channel.dtype.kind == "f"
        infinite, nan = (int(test(channel).sum()) if floating else 0 for test in (np.isinf, np.isnan))
        where, size = f"{path}, channel {n}", channel.size
        if infinite:
            yield "error", "not finite", f"{where}: {infinite} of {size} voxels are infinite: mend the file"
        if nan and nan_as_zero:
            yield "warning", "not finite", f"{where}: {nan} of {size} voxels are NaN, and are read as 0"
        elif nan:
            message = f"{where}: {nan} of {size} voxels are NaN: mend the file, or read NaN as 0 with --nan zero"
            yield "error", "not finite", message


def _declaring(root: Path) -> str:
    """The file that declares, or may declare, what the values of the labels mean."""
    return "dataset.json" if (root / "dataset.json").is_file() else "a file labels.json in the dataset's folder"


def _label_faults(path: Path, label: Volume, legal: LabelSet, where: str) -> Iterator[Fault]:
    yield from volume_faults(path, label)
    if not label.array.size:
        return
    if label.array.shape[0] != 1:
        yield "error", "label channels", f"{path}: a label has one channel, this file has {label.array.shape[0]}"
    try:
        values = set(np.unique(integer_label(label.array)).tolist())
    except UserError as error:
        yield "error", "label not integer", f"{path}: {error}"
        return
    unknown = sorted(values - set(legal.legal))
    if unknown:
        shown = f"{unknown[:10]}{'...' if len(unknown) > 10 else ''}"
        message = f"{path}: undeclared values {shown}; legal: {list(legal.legal)}; {where} declares them"
        yield "error", "label values", message
    if values == {0}:
        yield "warning", "empty label", f"{path}: every voxel is background"
    elif values == {legal.ignore}:
        yield (
            "warning",
            "no annotation",
            f"{path}: every voxel has the ignore label {legal.ignore}: nothing can be learnt",
        )
    elif values == {0, legal.ignore}:
        yield "warning", "empty label", f"{path}: every annotated voxel is background"
