"""The check of where volumes lie and how large their voxels are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxward.core.case import Case, Dataset, Volume
from voxward.core.errors import UserError
from voxward.core.spacing import SHEARED_DEGREES, shear_degrees
from voxward.data.io import Header, read_header, volume_suffix
from voxward.data.nifti_geometry import header_remarks
from voxward.data.orphans import Severity
from voxward.data.places import apart
from voxward.data.remarks import collected
from voxward.data.volume_file import NIFTI_SUFFIXES, PAIR_SUFFIXES, PICTURE_SUFFIXES, affine_fault

Fault = tuple[Severity, str, str]
"""A fault before it is known whose it is: severity, kind, message."""

# A difference of places below the tolerance that deserves a look, in voxels.
NOTICED_VOXELS = 0.01
# How many times larger or smaller than the median a voxel edge may be.
UNLIKE_MEDIAN = 10.0
# Voxel edges in mm that no scanner and no microscope has.
LEAST_EDGE_MM, GREATEST_EDGE_MM = 1e-5, 100.0
# Of more cases than these, one line says it.
SINGLY = 3
_NAMED = 5


@dataclass(frozen=True, eq=False)
class _File:
    case: Case
    path: Path
    header: Header

    @property
    def edges(self) -> np.ndarray:
        """The voxel's edges in mm, the shortest first."""
        return np.sort(np.linalg.norm(self.header.affine[:3, :3], axis=0))


def volume_faults(path: Path, volume: Volume) -> Iterator[Fault]:
    """Find what makes a volume unusable wherever it lies.

    Args:
        path: The file.
        volume: What was read from it.
    """
    if 0 in volume.array.shape:
        yield "error", "empty volume", f"{path} has no voxels: shape {volume.shape}"
    if (fault := affine_fault(volume.affine)) is not None:
        yield "error", "affine", f"{path}: {fault}"


def disagreement(path: Path, volume: Volume, other_path: Path, other: Volume, tolerance: float) -> Iterator[Fault]:
    """Find what makes two files no files of one case.

    Args:
        path: The first file.
        volume: What was read from it.
        other_path: The second file.
        other: What was read from it.
        tolerance: How far the corners of both may lie apart, in voxels.
    """
    names = f"{path.name} and {other_path.parent.name}/{other_path.name}"
    if volume.shape != other.shape:
        yield "error", "shape", f"{names} differ in shape: {volume.shape} and {other.shape}"
    if affine_fault(volume.affine) is not None or affine_fault(other.affine) is not None:
        return
    found = apart(volume.affine, other.affine, volume.shape)
    if found.exceeds(tolerance):
        kind = "spacing" if any(cause.startswith("spacing") for cause in found.causes) else "affine"
        more = f"; --affine-tolerance allows {tolerance:g} of a voxel" if found.voxels < 1 else ""
        yield "error", kind, f"{names} lie in different places: {found}{more}"


def geometry_faults(dataset: Dataset) -> list[tuple[str, Fault]]:
    """Find what is legal in the headers of a dataset's files, and deserves a look.

    Args:
        dataset: The dataset. Files that cannot be read are left to others.

    Returns:
        The fault with the id of its case; with the dataset's name where many cases share it.
    """
    files = [file for case in dataset.every for file in _files(case)]
    found: dict[str, list[tuple[str, str]]] = {}
    for case, kind, message in (*_single_faults(files), *_unlike(files), *_close(dataset.every, files)):
        found.setdefault(kind, []).append((case.id, message))
    return [fault for kind, entries in found.items() for fault in _together(dataset.name, kind, entries)]


def _files(case: Case) -> Iterator[_File]:
    for path in (*case.images, *([] if case.label is None else [case.label])):
        try:
            with collected():
                header = read_header(path)
        except (UserError, OSError):
            continue
        if affine_fault(header.affine) is None:
            yield _File(case, path, header)


def _single_faults(files: Sequence[_File]) -> Iterator[tuple[Case, str, str]]:
    for file in files:
        suffix = volume_suffix(file.path)
        if suffix in NIFTI_SUFFIXES + PAIR_SUFFIXES:
            for kind, remark in header_remarks(file.path, file.header.shape, file.case.affine_tolerance):
                yield file.case, kind, f"{file.path} {remark}"
        if suffix in PICTURE_SUFFIXES and file.path == file.case.images[0]:
            message = f"{file.path} says nowhere how large a pixel is: 1 mm is taken, so that 1 mm means one pixel"
            yield file.case, "pixel size", message
        degrees = shear_degrees(file.header.affine)
        if degrees > SHEARED_DEGREES:
            message = f"{file.path}: the grid is sheared, its axes are {degrees:.3g} degrees from right angles"
            yield file.case, "sheared", message


def _unlike(files: Sequence[_File]) -> Iterator[tuple[Case, str, str]]:
    """Voxels of a size that hardly anything has, or that the other cases have not."""
    images = [file for file in files if file.path == file.case.images[0]]
    if not images:
        return
    median = np.median([file.edges for file in images], axis=0)
    for file in images:
        ratio = file.edges / median
        if ratio.max() > UNLIKE_MEDIAN or ratio.min() < 1 / UNLIKE_MEDIAN:
            message = f"voxels of {_mm(file.edges)}, where the median case has {_mm(median)}"
        elif file.edges[0] < LEAST_EDGE_MM or file.edges[-1] > GREATEST_EDGE_MM:
            message = f"voxels of {_mm(file.edges)}"
        else:
            continue
        yield file.case, "voxel size", f"{file.path}: {message}: is the unit right?"


def _close(cases: Sequence[Case], files: Sequence[_File]) -> Iterator[tuple[Case, str, str]]:
    """Files of one case whose places differ, but by less than the case allows."""
    of_case: dict[str, list[_File]] = {case.id: [] for case in cases}
    for file in files:
        of_case[file.case.id].append(file)
    for first, *others in filter(None, of_case.values()):
        for other in others:
            found = apart(first.header.affine, other.header.affine, first.header.shape)
            if found.exceeds(NOTICED_VOXELS) and not found.exceeds(first.case.affine_tolerance):
                names = f"{first.path.name} and {other.path.parent.name}/{other.path.name}"
                yield first.case, "place", f"{names} do not lie in quite the same place: {found}"


def _together(dataset: str, kind: str, entries: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Fault]]:
    ids = list(dict.fromkeys(id for id, _ in entries))
    if len(ids) <= SINGLY:
        yield from ((id, ("warning", kind, message)) for id, message in entries)
        return
    named = ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")
    yield dataset, ("warning", kind, f"{len(ids)} cases ({named}), the first: {entries[0][1]}")


def _mm(edges: np.ndarray) -> str:
    return " x ".join(f"{float(f'{edge:.3g}'):g}" for edge in edges) + " mm"
