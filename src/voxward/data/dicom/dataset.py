"""Cases of DICOM files, read whole for a dataset, and the book of what each was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.data.content import digest_of
from voxward.data.dicom.cases import DicomCase, case_id, names_in
from voxward.data.dicom.files import Series
from voxward.data.dicom.grid import Grid
from voxward.data.dicom.image import DicomImage, grid_of_series, read_series
from voxward.data.dicom.labels import read_masks
from voxward.data.made_dataset import DatasetWriter, plain, refuse_ids
from voxward.data.masks import label_of_masks
from voxward.data.places import apart
from voxward.data.remarks import remark

BOOK = "dicom.json"
"""The file of a dataset that says which DICOM files each case was made of."""
# Series of one case may lie so far apart, in mm.
_BEYOND = 1e-3


def refuse_names(folders: Sequence[Path]) -> None:
    """Refuse folders after which no case can be named, or two of which would be one case.

    Args:
        folders: The folder of each case.

    Raises:
        UserError: There are such folders.
    """
    ids = [case_id(folder) for folder in folders]
    refuse_ids(ids)
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        alike = [str(folder) for id, folder in zip(ids, folders, strict=True) if id == twice[0]]
        raise UserError(f"{' and '.join(alike)} would be the same case {twice[0]!r}: rename one of them")


def fitting(case: DicomCase, others: Sequence[DicomCase]) -> DicomCase:
    """Return a case, where its channels are those of the cases before it.

    Raises:
        UserError: It has others.
    """
    if others and case.channels != others[0].channels:
        raise UserError(
            f"{case.folder} is {', '.join(case.channels)}, and {others[0].folder} {', '.join(others[0].channels)}: the "
            "cases of a dataset have the same channels"
        )
    return case


class Over(Enum):
    """What is done where classes overlap: later ones are written over earlier ones, or the case is refused."""

    MEANT = "meant"
    WARNED = "warned"
    REFUSED = "refused"


def write_case(writer: DatasetWriter, case: DicomCase, over: Over) -> Mapping[str, Any]:
    """Read a case whole, then write it: a case that fails leaves nothing.

    Args:
        writer: Writes the dataset.
        case: The case.
        over: What is done where classes overlap.

    Returns:
        What the case was made of, without what the files say about the patient.

    Raises:
        UserError: A file cannot be read, the series lie on different grids, or the ground truth is of another scan.
    """
    images = [read_series(series) for series in case.images]
    _refuse_apart(images)
    grid = images[0].grid
    label = None if case.truth is None else _label(case, case.truth, grid, writer.classes, over)
    writer.write(case.id, [(image.stored, image.scaling) for image in images], grid.affine, label)
    return source_entry(case)


def write_truth(writer: DatasetWriter, case: DicomCase, over: Over) -> Mapping[str, Any]:
    """Read the ground truth of a case, and write it beside the case's images, which are in the dataset already.

    Args:
        writer: Writes the dataset.
        case: The case, which has ground truth.
        over: What is done where classes overlap.

    Returns:
        What the case was made of, without what the files say about the patient.

    Raises:
        UserError: A file cannot be read, or the ground truth is of another scan.
    """
    assert case.truth is not None
    grid = grid_of_series(case.images[0])
    writer.write_truth(case.id, grid.affine, _label(case, case.truth, grid, writer.classes, over))
    return source_entry(case)


def _label(case: DicomCase, truth: Series, grid: Grid, classes: Sequence[str], over: Over) -> np.ndarray:
    _refuse_other_names(case, classes)
    masks = read_masks(truth, grid)
    drawn = [(name, masks[name]) for name in classes if name in masks]
    if over is Over.WARNED:
        _warn_of_overlaps(truth.paths[0], drawn)
    return label_of_masks(drawn, classes, grid.shape, over is not Over.REFUSED, case.id)


def _warn_of_overlaps(path: Path, drawn: Sequence[tuple[str, np.ndarray]]) -> None:
    """Warn of classes that overlap, once for each class that is written over others."""
    for n, (name, mask) in enumerate(drawn):
        shared = {other: int(np.count_nonzero(before & mask)) for other, before in drawn[:n]}
        if listed := ", ".join(f"{other!r} ({count} voxels)" for other, count in shared.items() if count):
            remark(path, f"holds {name!r} over {listed}: these voxels are read as {name!r}")


def _refuse_other_names(case: DicomCase, classes: Sequence[str]) -> None:
    """Refuse a case that describes none of the classes, or spells one in another way: it would be lost in silence."""
    assert case.truth is not None
    path, declared = case.truth.paths[0], names_in(case)
    if not set(declared) & set(classes):
        held = ", ".join(sorted(declared)) or "nothing"
        raise UserError(f"{path} describes none of the classes {', '.join(classes)}; it describes {held}")
    known = {plain(name): name for name in classes}
    for name in declared:
        if name not in classes and (other := known.get(plain(name))) is not None and other not in declared:
            raise UserError(f"{path} calls {name!r} what is the class {other!r}: rename it in the file")


def _refuse_apart(images: Sequence[DicomImage]) -> None:
    first = images[0]
    for other in images[1:]:
        found = apart(other.grid.affine, first.grid.affine, first.grid.shape)
        if other.grid.shape != first.grid.shape or found.mm > _BEYOND:
            raise UserError(
                f"the series {first.series.title} and {other.series.title} lie on different grids ({first.grid.shape} "
                f"and {other.grid.shape} voxels): resample one to the other first"
            )


def source_entry(case: DicomCase) -> Mapping[str, Any]:
    """Return what a case is made of, with digests of its files, and without what these say about the patient."""
    every = (*case.images, *([] if case.truth is None else [case.truth]))
    return {
        "folder": str(case.folder.resolve()),
        "series": [{"uid": one.uid, "kind": one.kind, "modality": one.modality, "description": one.description,
                    "files": len(one.paths),
                    "sha256": digest_of(one.paths)} for one in every],
    }  # fmt: skip
