"""The slices of an image series: where each lies, whether it is a file of its own or a frame of a multi-frame file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError

# What tells apart slices that lie at the same place: keyword, and the words for it.
_DISTINCT = {
    "EchoTime": "echo time",
    "EffectiveEchoTime": "echo time",
    "EchoNumbers": "echo",
    "InversionTime": "inversion time",
    "TemporalPositionIdentifier": "time point",
    "TemporalPositionIndex": "time point",
    "TriggerTime": "trigger time",
    "DiffusionBValue": "b-value",
    "AcquisitionNumber": "acquisition",
    "ImageType": "image type",
    "StackID": "stack",
}
# Orientations are written with some digits only.
_UNIT = 1e-3


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice.

    Attributes:
        path: The file.
        number: Which frame of the file it is; None for a file that is one slice.
        position: The centre (3) of the first pixel in mm, towards the patient's left, back and head.
        along: The directions (2, 3) in which the column and the row number of a pixel grow.
        spacing: The distance in mm between columns, and between rows.
        shape: The number of columns and of rows.
        rescale: Slope and intercept that make intensities of stored values.
        distinct: What may tell it from another slice at the same place, in words.
        thickness: How thick the slice is in mm, or how far the next one is; None where nothing says so.
        frame_of_reference: The UID of the coordinates that the position is in; empty without one.
    """

    path: Path
    number: int | None
    position: np.ndarray
    along: np.ndarray
    spacing: tuple[float, float]
    shape: tuple[int, int]
    rescale: tuple[float, float]
    distinct: Mapping[str, str]
    thickness: float | None
    frame_of_reference: str

    @property
    def plane(self) -> np.ndarray:
        """The affine (4, 3) from (column, row, 1) to mm."""
        found = np.zeros((4, 3))
        found[:3, 0], found[:3, 1] = self.along[0] * self.spacing[0], self.along[1] * self.spacing[1]
        found[:3, 2], found[3, 2] = self.position, 1.0
        return found


def frames_of(path: Path, header: Any) -> tuple[Frame, ...]:
    """Return the slices of a file.

    Args:
        path: The file.
        header: What pydicom reads of it.

    Raises:
        UserError: A slice does not say where it lies, or has colours; the message names the file.
    """
    seen = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    if str(header.get("SamplesPerPixel") or 1) != "1" or not seen.startswith("MONOCHROME"):
        raise UserError(f"{path} has colours ({seen}): only grey values are read")
    if "ModalityLUTSequence" in header:
        raise UserError(f"{path} says its intensities by a table (ModalityLUTSequence), which is not read")
    if "MOSAIC" in str(header.get("ImageType")):
        raise UserError(f"{path} holds many slices in one picture (MOSAIC), which is not taken apart")
    shape = int(_number(path, header, "Columns")), int(_number(path, header, "Rows"))
    reference = str(header.get("FrameOfReferenceUID", ""))
    if "PerFrameFunctionalGroupsSequence" not in header:
        if int(header.get("NumberOfFrames", 1) or 1) > 1:
            raise UserError(f"{path} holds several frames and does not say where they lie: it cannot be a volume")
        return (_frame(path, None, [header], shape, reference),)
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])[:1]
    groups = header.PerFrameFunctionalGroupsSequence
    if (count := int(_number(path, header, "NumberOfFrames"))) != len(groups):
        raise UserError(f"{path} holds {count} frames, and says of {len(groups)} where they lie")
    return tuple(
        _frame(
            path,
            number,
            [*_inside(group), *(one for part in shared for one in _inside(part)), header],
            shape,
            reference,
        )
        for number, group in enumerate(groups)
    )


def _inside(group: Any) -> Iterator[Any]:
    """What a functional group says, one level deep."""
    for element in group:
        if element.VR == "SQ" and element.value:
            yield element.value[0]


def _frame(path: Path, number: int | None, parts: Sequence[Any], shape: tuple[int, int], reference: str) -> Frame:
    def value(keyword: str, count: int) -> np.ndarray:
        for part in parts:
            if (found := part.get(keyword)) is not None:
                try:
                    read = np.array([float(one) for one in np.atleast_1d(found)])
                except (TypeError, ValueError):
                    break
                if read.shape == (count,) and np.isfinite(read).all():
                    return read
                break
        where = f"{path}, frame {number + 1}" if number is not None else str(path)
        raise UserError(f"{where}: {keyword} must be {count} numbers, so that its place is known")

    rows, columns = value("PixelSpacing", 2).tolist()
    if min(rows, columns) <= 0:
        raise UserError(f"{path}: PixelSpacing must be above 0, got {rows:g}, {columns:g}")
    along = value("ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(along, axis=1)
    if np.abs(lengths - 1).max() > _UNIT or abs(float(along[0] @ along[1])) > _UNIT:
        raise UserError(
            f"{path}: ImageOrientationPatient must be two unit vectors at a right angle, got {along.tolist()}"
        )
    return Frame(
        path=path, number=number, position=value("ImagePositionPatient", 3), along=along / lengths[:, None],
        spacing=(columns, rows), shape=shape, rescale=_rescale(path, parts), distinct=_words(parts),
        thickness=_thickness(parts),
        frame_of_reference=reference,
    )  # fmt: skip


def _rescale(path: Path, parts: Sequence[Any]) -> tuple[float, float]:
    found = []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        given = next((part.get(keyword) for part in parts if part.get(keyword) is not None), default)
        try:
            found.append(float(given))
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: {keyword} must be a number, got {given!r}") from error
    slope, intercept = found
    if not np.isfinite(found).all() or slope == 0:
        raise UserError(f"{path}: RescaleSlope must be a number other than 0, got {slope:g}, {intercept:g}")
    return slope, intercept


def _thickness(parts: Sequence[Any]) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        for part in parts:
            try:
                if (found := float(part.get(keyword))) > 0:
                    return found
            except (TypeError, ValueError):
                continue
    return None


def _words(parts: Sequence[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for keyword, words in _DISTINCT.items():
        for part in parts:
            if (value := part.get(keyword)) is not None:
                found.setdefault(words, str(value))
                break
    return found


def _number(path: Path, header: Any, keyword: str) -> float:
    try:
        return float(header.get(keyword))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {keyword} must be a number, got {header.get(keyword)!r}") from error
