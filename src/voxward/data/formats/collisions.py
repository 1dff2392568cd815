"""Entries of a dataset that cannot be used together: two files that mean one case, and two cases that mean one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from voxward.core.case import Case, Dataset, Remark
from voxward.core.files import name_fault
from voxward.core.names import composed
from voxward.data.volume_file import SUFFIXES, volume_stem, volumes_among


@dataclass(frozen=True)
class Refused:
    """An entry of a dataset that cannot be used.

    Attributes:
        case: The case; None if it is the dataset's own name.
        message: Why it cannot be used, and the file that declares it.
        kind: A short name that groups the reasons.
    """

    case: Case | None
    message: str
    kind: str = "name"


def refused_entries(dataset: Dataset) -> Iterator[Refused]:
    """Return the entries of a dataset after which no file can be named, or that share a file or an id with another.

    Args:
        dataset: The dataset as its layout declares it.
    """
    description = dataset.root / "dataset.json"
    source = description if description.is_file() else dataset.root
    # The name of a folder that is there is one that a file may have.
    own = (dataset.root.name, dataset.root.resolve().name)
    if dataset.name not in own and (fault := name_fault(dataset.name)) is not None:
        yield Refused(None, f'{source}: the dataset\'s "name" {dataset.name!r} is no plain file name: {fault}')
    same = _by_name(dataset.every)
    for case in dataset.every:
        alike = same[composed(case.id)]
        if (fault := name_fault(case.id)) is not None:
            yield Refused(case, f"{source}: the case id {case.id!r} ({_files(case)}) is no plain file name: {fault}")
        elif len(alike) > 1:
            files = "; ".join(dict.fromkeys(map(_files, alike)))
            yield Refused(case, f"{source} declares cases twice: {case.id} ({files})", "listed twice")
    yield from _shadowed(dataset)


def _by_name(cases: Iterable[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        found[composed(case.id)].append(case)
    return found


def _files(case: Case) -> str:
    return ", ".join(repr(path.name) for path in case.images) or "no image"


def _shadowed(dataset: Dataset) -> Iterator[Refused]:
    """Cases for one of whose files there are two: CASE.nii.gz and CASE.nii, or CASE.nii and CASE.nrrd."""
    images = {path for case in dataset.every for path in case.images}
    labels = {case.label for case in dataset.every if case.label is not None}
    found = {folder: volumes_by_stem(folder) for folder in {path.parent for path in images | labels}}
    only_images, only_labels = images - labels, labels - images
    for case in dataset.every:
        for path in case.images:
            yield from _shadows(case, path, found, only_labels)
        if case.label is not None:
            yield from _shadows(case, case.label, found, only_images)


def _shadows(
    case: Case, path: Path, found: dict[Path, dict[str, list[Path]]], elsewhere: set[Path]
) -> Iterator[Refused]:
    """Name the files beside a declared one that mean the same; not those of the other role."""
    alike = [file for file in found[path.parent].get(_stem(path), ()) if file not in elsewhere]
    if len(alike) > 1 or (alike and path not in alike and path.exists()):
        names = " and ".join(dict.fromkeys(file.name for file in (*alike, path)))
        yield Refused(
            case, f"{path.parent}: {names} mean one case: keep one of them, and move the other away", "shadow"
        )


def volumes_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return the volume files of a folder by their name without the suffix; hidden files are other programs' notes.

    Args:
        folder: The folder; one that is not there holds none.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for file in volumes_among(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else ():
        found[_stem(file)].append(file)
    return found


def _stem(path: Path) -> str:
    return volume_stem(path) if path.name.lower().endswith(SUFFIXES) else path.name


def name_remarks(dataset: Dataset) -> Iterator[Remark]:
    """Name the cases whose ids differ in capital letters only, which is no difference on Windows and macOS.

    Args:
        dataset: The dataset.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for case in dataset.every:
        groups[composed(case.id).casefold()].add(composed(case.id))
    alike = [" and ".join(sorted(ids)) for ids in groups.values() if len(ids) > 1]
    if alike:
        more = f" and {len(alike) - 3} more" if len(alike) > 3 else ""
        yield Remark(
            "names", f"{dataset.root}: the case ids {', '.join(alike[:3])}{more} differ in capital letters only; on "
            "Windows and macOS their results would be one file",
        )  # fmt: skip
