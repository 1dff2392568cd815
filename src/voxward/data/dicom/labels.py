"""Segmentations (DICOM SEG) and contours (RTSTRUCT) as masks in the voxels of an image series."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.data.dicom.files import Series, naming, pixels_of, read_dicom
from voxward.data.dicom.frames import frames_of
from voxward.data.dicom.grid import LPS_TO_RAS, Grid

Masks = dict[str, np.ndarray]
"""For each name a boolean mask (columns, rows, slices)."""

# How far a pixel of a segmentation may lie from the centre of a voxel, and a contour from a slice, in voxels.
_OFF_VOXEL, _OFF_SLICE = 0.02, 0.2
# A contour of a structure may leave the image by so many voxels: it is drawn round the outermost ones.
_BEYOND = 1.0
_XOR = "CLOSEDPLANAR_XOR"
_CLOSED = ("CLOSED_PLANAR", _XOR)
_FEWEST_POINTS = 3


def read_masks(series: Series, grid: Grid) -> Masks:
    """Read what a segmentation or a set of contours marks in an image.

    Args:
        series: A series with one file, whose `kind` is segmentation or contours.
        grid: The voxels of the image.

    Returns:
        A mask (columns, rows, slices) for each segment or structure that is drawn, by its name.

    Raises:
        UserError: A file cannot be read, is of another scan, or has pixels that lie between the image's voxels.
    """
    found: Masks = {}
    for path in series.paths:
        header = read_dicom(path)
        with naming(path):
            own = _READERS[series.kind](path, header, grid)
        if twice := sorted(set(found) & set(own)):
            raise UserError(f"{path}: the name {twice[0]!r} is given twice: rename one of them")
        found |= own
    return found


def segment_names(header: Any) -> dict[int, str]:
    """Return the name of each segment by its number; a label map may list the background, with the number 0."""
    found = {int(one.SegmentNumber): str(one.get("SegmentLabel", "")) for one in header.get("SegmentSequence") or []}
    return {number: name.strip() or str(number) for number, name in found.items() if number > 0}


def structure_names(header: Any) -> dict[int, str]:
    """Return the name of each structure of contours by its number."""
    listed = header.get("StructureSetROISequence") or []
    return {int(one.ROINumber): str(one.get("ROIName", "")).strip() or str(one.ROINumber) for one in listed}


def _segments(path: Path, header: Any, grid: Grid) -> Masks:
    kind = str(header.get("SegmentationType", "BINARY"))
    names = segment_names(header)
    _refuse_repeated(path, names)
    frames, pixels = frames_of(path, header), pixels_of(path, header)
    if len(frames) != len(pixels):
        raise UserError(f"{path} holds {len(pixels)} frames, and says of {len(frames)} where they lie")
    _refuse_elsewhere(path, {frame.frame_of_reference for frame in frames}, grid)
    masks: Masks = {}
    # A part of the largest value of a fractional segmentation that counts as inside.
    least = 0.5 * float(header.get("MaximumFractionalValue", 1)) if kind == "FRACTIONAL" else 1.0
    for n, frame in enumerate(frames):
        where = _places(path, frame.plane, pixels[n].shape, grid)
        for number, marked in _marked(path, header, n, pixels[n], kind, least):
            if marked.any():
                if number not in names:
                    raise UserError(f"{path} marks a segment {number}, which it does not describe")
                mask = masks.setdefault(names[number], np.zeros(grid.shape, bool))
                _mark(path, mask, where, marked)
    return masks


def _marked(
    path: Path, header: Any, n: int, pixels: np.ndarray, kind: str, least: float
) -> Iterator[tuple[int, np.ndarray]]:
    if kind == "LABELMAP":
        for value in np.unique(pixels[pixels > 0]).tolist():
            yield int(value), pixels == value
        return
    groups = [header.PerFrameFunctionalGroupsSequence[n], *(header.get("SharedFunctionalGroupsSequence") or [])]
    for group in groups:
        if (found := group.get("SegmentIdentificationSequence")) is not None:
            yield int(found[0].ReferencedSegmentNumber), pixels >= least
            return
    raise UserError(f"{path}, frame {n + 1} does not say which segment it is of")


def _places(path: Path, plane: np.ndarray, shape: tuple[int, ...], grid: Grid) -> np.ndarray:
    """The voxel (3, rows, columns) of each pixel of a frame."""
    into = np.linalg.inv(grid.affine) @ LPS_TO_RAS @ plane
    rows, columns = np.indices(shape)
    exact = np.einsum("ak,krc->arc", into[:3], np.stack([columns, rows, np.ones(shape)]))
    found = np.rint(exact)
    if (off := float(np.abs(exact - found).max())) > _OFF_VOXEL:
        raise UserError(
            f"{path}: its pixels lie between the voxels of the image, by {off:.2g} of a voxel: it was drawn on another "
            "grid, and must be resampled to the image first"
        )
    places: np.ndarray = found.astype(int)
    return places


def _mark(path: Path, mask: np.ndarray, where: np.ndarray, marked: np.ndarray) -> None:
    places = where[:, marked]
    limits = np.array(mask.shape)[:, None]
    if ((places < 0) | (places >= limits)).any():
        raise UserError(f"{path} marks pixels outside of the image: it is of another scan")
    mask[tuple(places)] = True


def _contours(path: Path, header: Any, grid: Grid) -> Masks:
    names = structure_names(header)
    _refuse_repeated(path, names)
    listed = header.get("StructureSetROISequence") or []
    references = {str(one.get("ReferencedFrameOfReferenceUID", "")) for one in listed}
    _refuse_elsewhere(path, references, grid)
    masks: Masks = {}
    into = np.linalg.inv(grid.affine) @ LPS_TO_RAS
    for one in header.get("ROIContourSequence") or []:
        if int(one.ReferencedROINumber) not in names:
            raise UserError(f"{path} draws a structure {one.ReferencedROINumber}, which it does not name")
        name = names[int(one.ReferencedROINumber)]
        drawn: dict[int, list[tuple[np.ndarray, bool]]] = defaultdict(list)
        for contour in one.get("ContourSequence") or []:
            kind = str(contour.get("ContourGeometricType"))
            number, points = _in_slice(path, name, contour, into, grid)
            if kind not in _CLOSED or len(points) < _FEWEST_POINTS:
                warnings.warn(
                    f"{path}: {name!r} holds a contour that encloses nothing ({kind}, {len(points)} points)",
                    stacklevel=5,
                )
                continue
            drawn[number].append((points, kind == _XOR))
        if drawn:
            _warn_of_gaps(path, name, drawn)
            mask = masks.setdefault(name, np.zeros(grid.shape, bool))
            for number, contours in drawn.items():
                mask[:, :, number] |= _filled(path, name, contours, grid.shape[:2])
    return masks


def _warn_of_gaps(path: Path, name: str, drawn: Mapping[int, object]) -> None:
    missing = sorted(set(range(min(drawn), max(drawn) + 1)) - set(drawn))
    if missing:
        warnings.warn(
            f"{path}: {name!r} is not drawn in {len(missing)} of the slices between its first and its last one (slice "
            f"{missing[0] + 1}, ...): nothing is marked there",
            stacklevel=6,
        )


def _in_slice(path: Path, name: str, contour: Any, into: np.ndarray, grid: Grid) -> tuple[int, np.ndarray]:
    """The slice of a contour, and its points (n, 2) as columns and rows."""
    try:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a contour of {name!r} does not hold three numbers for each point") from error
    at = (into @ np.c_[points, np.ones(len(points))].T)[:3].T
    number = int(np.rint(at[:, 2].mean()))
    if (off := float(np.abs(at[:, 2] - number).max())) > _OFF_SLICE:
        raise UserError(f"{path}: a contour of {name!r} lies between slices, {off:.2g} of their distance from one")
    limits = np.array(grid.shape) - 1
    if not 0 <= number <= limits[2] or (at[:, :2] < -_BEYOND).any() or (at[:, :2] > limits[:2] + _BEYOND).any():
        raise UserError(f"{path}: a contour of {name!r} lies outside of the image: it is of another scan")
    return number, at[:, :2]


def _filled(path: Path, name: str, contours: Sequence[tuple[np.ndarray, bool]], shape: tuple[int, int]) -> np.ndarray:
    """The pixels (columns, rows) of a slice whose centres are inside; a contour inside another one is a hole.

    Contours that cross are put together, with a warning; one that is there twice counts once.
    """
    mask = np.zeros(shape, bool)
    areas = [(_inside(points, shape), xor) for points, xor in contours]
    seen: list[np.ndarray] = []
    for area, xor in sorted(areas, key=lambda one: -int(np.count_nonzero(one[0]))):
        if any(np.array_equal(area, other) for other in seen):
            warnings.warn(f"{path}: {name!r} holds a contour twice, which counts once", stacklevel=6)
            continue
        seen.append(area)
        shared = area & mask
        if xor or np.array_equal(shared, area):
            mask ^= area
        else:
            if shared.any():
                warnings.warn(f"{path}: contours of {name!r} cross: both are marked", stacklevel=6)
            mask |= area
    return mask


def _inside(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    from matplotlib.path import Path as Polygon  # only contours need it, and it is slow to import

    found = np.zeros(shape, bool)
    low = np.maximum(np.floor(points.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(0)).astype(int) + 1, shape)
    if (high > low).all():
        columns, rows = np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij")
        held = Polygon(points).contains_points(np.c_[columns.ravel(), rows.ravel()])
        found[low[0] : high[0], low[1] : high[1]] = held.reshape(columns.shape)
    return found


def _refuse_repeated(path: Path, names: Mapping[int, str]) -> None:
    listed = list(names.values())
    if twice := sorted({name for name in listed if listed.count(name) > 1}):
        raise UserError(f"{path}: the name {twice[0]!r} is given twice: rename one of them")


def _refuse_elsewhere(path: Path, references: set[str], grid: Grid) -> None:
    """Refuse what is drawn in other coordinates, where both say which."""
    own = grid.frames[0].frame_of_reference
    if own and (others := references - {own, ""}):
        raise UserError(
            f"{path} is drawn in other coordinates than the image (FrameOfReferenceUID {sorted(others)[0]} and {own}): "
            "it is of another scan"
        )


_READERS: dict[str, Callable[[Path, Any, Grid], Masks]] = {"segmentation": _segments, "contours": _contours}
