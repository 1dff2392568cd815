"""The DICOM files that a case of a dataset was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.core.reading import read_json
from voxward.data.content import digest_of
from voxward.data.dicom.dataset import BOOK
from voxward.data.dicom.files import Series, series_in
from voxward.data.dicom.grid import Grid
from voxward.data.dicom.image import grid_of_series
from voxward.data.places import apart

# What is written may lie so far from the slices of its source, in mm.
_BEYOND = 1e-3


@dataclass(frozen=True, eq=False)
class DicomSource:
    """The image series of a case.

    Attributes:
        case: The id of the case.
        images: The series, one per channel.
        grid: Where the slices of the first one lie.
    """

    case: str
    images: tuple[Series, ...]
    grid: Grid

    def refuse_elsewhere(self, path: Path, shape: tuple[int, ...], affine: np.ndarray) -> None:
        """Refuse a volume that does not lie where the slices lie.

        Args:
            path: The file of the volume.
            shape: Its shape (i, j, k).
            affine: Its affine, RAS+.

        Raises:
            UserError: It has another shape, or lies elsewhere.
        """
        found = apart(affine, self.grid.affine, self.grid.shape)
        if shape != self.grid.shape or not found.mm <= _BEYOND:
            raise UserError(
                f"{path} does not lie in the slices of case {self.case}: {shape} and {self.grid.shape} voxels, {found}"
            )


def read_book(dataset: Path) -> Mapping[str, Any]:
    """Return what each case of a dataset was made of.

    Args:
        dataset: The folder of the dataset.

    Raises:
        UserError: `voxward from-dicom` did not write it.
    """
    path = dataset / BOOK
    if not path.is_file():
        raise UserError(f"{dataset} was not written by voxward from-dicom: it holds no {BOOK}")
    found = read_json(path)
    cases = found.get("cases") if isinstance(found, Mapping) and found.get("format") == 1 else None
    if not isinstance(cases, Mapping):
        raise UserError(f"{path} is no list of cases of format 1")
    return cases


def source_of(case: str, book: Mapping[str, Any]) -> DicomSource:
    """Find the DICOM files of a case again.

    Args:
        case: The id of the case.
        book: What `read_book` returned.

    Raises:
        UserError: The case is unknown, or its files are gone or others than they were.
    """
    entry = book.get(case)
    if entry is not None and not (isinstance(entry, Mapping) and {"folder", "series"} <= set(entry)):
        raise UserError(f"{BOOK} does not say which files case {case} was made of")
    if entry is None:
        raise UserError(f"{case} is no case of the dataset; its cases are {', '.join(list(book)[:5])}, ...")
    folder, listed = Path(entry["folder"]), [one for one in entry["series"] if one.get("kind") == "image"]
    if not folder.exists():
        raise UserError(f"{folder}, which case {case} was made of, is gone")
    held = {one.uid: one for one in series_in(folder)}
    for one in listed:
        if one["uid"] not in held or digest_of(held[one["uid"]].paths) != one["sha256"]:
            raise UserError(f"the series {one['uid']} in {folder} is another than when case {case} was made of it")
    images = tuple(held[one["uid"]] for one in listed)
    return DicomSource(case, images, grid_of_series(images[0]))
