"""An image series becomes a volume."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from voxward.core.case import Scaling
from voxward.core.errors import UserError
from voxward.data.dicom.files import Series, naming, pixels_of, read_dicom
from voxward.data.dicom.frames import Frame, frames_of
from voxward.data.dicom.grid import Grid, grid_of

_STORED = ("int16", "uint16", "int32")


@dataclass(frozen=True, eq=False)
class DicomImage:
    """An image series that was read.

    Attributes:
        series: The series.
        grid: Where its slices lie.
        stored: The values (columns, rows, slices) as a file stores them: integers, or float32 where every slice has
            its own scale.
        scaling: How stored integers become intensities; None: they are the intensities.
    """

    series: Series
    grid: Grid
    stored: np.ndarray
    scaling: Scaling | None


def grid_of_series(series: Series) -> Grid:
    """Return where the slices of an image series lie, without their pixels.

    Args:
        series: The series.

    Raises:
        UserError: A file cannot be read, or the slices are no volume; the message names the file.
    """
    headers = [(path, read_dicom(path, pixels=False)) for path in series.paths]
    frames: list[Frame] = []
    for path, header in headers:
        with naming(path):
            frames += frames_of(path, header)
    return grid_of(frames)


def read_series(series: Series) -> DicomImage:
    """Read an image series.

    CT becomes Hounsfield units, other images what their rescale slope and intercept say. Where all slices have one
    scale, the stored integers are kept, and those of CT in whole Hounsfield units.

    Args:
        series: The series, with `kind` image.

    Raises:
        UserError: A file cannot be read, or the slices are no volume; the message names the file.
    """
    grid = grid_of_series(series)
    scales = {frame.rescale for frame in grid.frames}
    whole = len(scales) == 1 and all(abs(slope) == 1 and float(intercept).is_integer() for slope, intercept in scales)
    found: np.ndarray | None = None
    for n, (frame, pixels) in enumerate(_pixels(grid)):
        values = _values(pixels, frame.rescale, whole, single=len(scales) == 1)
        if found is None:
            found = np.empty(grid.shape, values.dtype)
        found[:, :, n] = values.T
    assert found is not None
    if whole:
        return DicomImage(series, grid, _smallest(found), None)
    if len(scales) == 1 and found.dtype.kind in "iu":
        slope, intercept = grid.frames[0].rescale
        kept = _smallest(found)
        return DicomImage(series, grid, kept, Scaling(kept.dtype.name, slope, intercept))
    return DicomImage(series, grid, found.astype(np.float32), None)


def _values(pixels: np.ndarray, rescale: tuple[float, float], whole: bool, single: bool) -> np.ndarray:
    slope, intercept = rescale
    if pixels.dtype.kind not in "iu":
        return (pixels.astype(np.float64) * slope + intercept).astype(np.float32)
    kind = np.int32 if pixels.dtype.itemsize < 4 and abs(slope) < 2**14 and abs(intercept) < 2**30 else np.int64
    if whole:
        return pixels.astype(kind) * int(slope) + int(intercept)
    return pixels.astype(kind) if single else (pixels.astype(np.float64) * slope + intercept).astype(np.float32)


def _smallest(values: np.ndarray) -> np.ndarray:
    """The values in the smallest number type that a NIfTI file of stored integers has."""
    low, high = int(values.min()), int(values.max())
    for kind in _STORED:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    raise UserError(f"stored values must lie within int32, got {low} to {high}")


def _pixels(grid: Grid) -> list[tuple[Frame, np.ndarray]]:
    """The stored values (rows, columns) of each slice; a multi-frame file is decoded once."""
    files: dict[Path, np.ndarray] = {}
    for path, _ in groupby(sorted(frame.path for frame in grid.frames)):
        files[path] = _decoded(path, grid.frames[0].shape)
    return [(frame, files[frame.path][frame.number or 0]) for frame in grid.frames]


def _decoded(path: Path, shape: tuple[int, int]) -> np.ndarray:
    found, (columns, rows) = pixels_of(path, read_dicom(path)), shape
    if found.shape[-2:] != (rows, columns):
        raise UserError(f"{path}: {found.shape} pixels, where its header has {rows} rows and {columns} columns")
    return found
