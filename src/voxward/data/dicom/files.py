"""The DICOM files of a folder, sorted into series by what they say of themselves."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.data.dicom.packages import pydicom

_PREAMBLE, _MAGIC = 128, b"DICM"
_OBJECTS = {"SEG": "segmentation", "RTSTRUCT": "contours"}


@dataclass(frozen=True, eq=False)
class Series:
    """The files that share a SeriesInstanceUID.

    Attributes:
        uid: The SeriesInstanceUID.
        paths: The files, sorted by name.
        modality: What the files are, such as `CT`, `MR`, `SEG` or `RTSTRUCT`.
        description: The SeriesDescription; empty without one.
        kind: `image`, `segmentation`, `contours`, or `other`, which is none of these, such as a localizer or a report.
    """

    uid: str
    paths: tuple[Path, ...]
    modality: str
    description: str
    kind: str

    @property
    def title(self) -> str:
        """The series in words, such as `"ax t1" (MR, 120 files)`."""
        count = len(self.paths)
        return f'"{self.description or self.uid}" ({self.modality}, {count} file{"" if count == 1 else "s"})'


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM files do, whatever it is called."""
    try:
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except OSError:
        return False


def dicom_files(folder: Path) -> tuple[Path, ...]:
    """Return the DICOM files in a folder and in its folders, sorted; a DICOMDIR is a list of files, and none itself.

    Args:
        folder: The folder. A single DICOM file counts, too.
    """
    found = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(path for path in found if path.name.upper() != "DICOMDIR" and _claims(path))


def _claims(path: Path) -> bool:
    """A file that is called .dcm and does not begin as one is refused by its name, and not passed over."""
    return path.suffix.lower() == ".dcm" or is_dicom(path)


def series_in(folder: Path) -> tuple[Series, ...]:
    """Return the series of a folder and its folders, in the order of their descriptions.

    Args:
        folder: The folder, or a single file.

    Raises:
        UserError: A file cannot be read; the message names it.
        MissingPackageError: pydicom is not installed.
    """
    groups: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
    for path in dicom_files(folder):
        header = read_dicom(path, pixels=False)
        groups[str(header.get("SeriesInstanceUID", path.name))].append((path, header))
    found = (_series(uid, files) for uid, files in groups.items())
    return tuple(sorted(found, key=lambda one: (one.description, one.uid)))


def read_dicom(path: Path, pixels: bool = True) -> Any:
    """Read a DICOM file.

    Args:
        path: The file.
        pixels: Whether its pixels are read, too.

    Returns:
        The dataset of pydicom.

    Raises:
        UserError: The file is truncated or corrupt.
        MissingPackageError: pydicom is not installed.
    """
    package = pydicom()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not quite as the standard wants them
            found = package.dcmread(path, stop_before_pixels=not pixels)
            found.get("SeriesInstanceUID")
            return found
    except Exception as error:
        if isinstance(error, MemoryError | KeyboardInterrupt):
            raise
        raise UserError(f"{path} is truncated, corrupt, or no DICOM file: {error}") from error


def _series(uid: str, files: Sequence[tuple[Path, Any]]) -> Series:
    first = files[0][1]
    modality = str(first.get("Modality", "unknown"))
    description = str(first.get("SeriesDescription", "")).strip()
    return Series(
        uid, tuple(path for path, _ in files), modality, description, _kind(modality, [one for _, one in files])
    )


def _kind(modality: str, headers: Sequence[Any]) -> str:
    if modality in _OBJECTS:
        return _OBJECTS[modality]
    first = headers[0]
    survey = any("LOCALIZER" in list(_several(header.get("ImageType"))) for header in headers)
    placed = "ImagePositionPatient" in first or "PerFrameFunctionalGroupsSequence" in first
    return "image" if "Rows" in first and placed and not survey else "other"


def _several(value: Any) -> Iterator[str]:
    if value is not None:
        yield from [value] if isinstance(value, str) else value
