"""The DICOM files of a folder, sorted into series by what they say of themselves."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.data.dicom.packages import pydicom

_PREAMBLE, _MAGIC = 128, b"DICM"
# How a file begins that lacks the preamble: with an element of the first groups.
_BARE = (b"\x02\x00", b"\x08\x00")
_OBJECTS = {"SEG": "segmentation", "RTSTRUCT": "contours"}
# What may lie beside a scan, with pixels and a place, and is none.
_BESIDE = ("RTDOSE", "RTPLAN", "RTIMAGE", "RTRECORD", "REG", "SR", "PR", "KO", "DOC", "FID")


@dataclass(frozen=True, eq=False)
class Series:
    """The files that share a SeriesInstanceUID.

    Attributes:
        uid: The SeriesInstanceUID.
        paths: The files, sorted by name.
        modality: What the files are, such as `CT`, `MR`, `SEG` or `RTSTRUCT`.
        description: The SeriesDescription; empty without one.
        kind: `image`, `segmentation`, `contours`, or `other`, which is none of these, such as a localizer or a report.
        patient: The PatientID, by which ground truth of somebody else is told; empty without one.
        study: The StudyInstanceUID; empty without one.
    """

    uid: str
    paths: tuple[Path, ...]
    modality: str
    description: str
    kind: str
    patient: str = ""
    study: str = ""

    @property
    def title(self) -> str:
        """The series in words, such as `"ax t1" (MR, 120 files)`."""
        count = len(self.paths)
        return f'"{self.description or self.uid}" ({self.modality}, {count} file{"" if count == 1 else "s"})'


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM files do, whatever it is called.

    Raises:
        OSError: It cannot be read.
    """
    if path.exists() and not path.is_file():  # a pipe would never end
        return False
    with path.open("rb") as stream:
        begin = stream.read(_PREAMBLE + len(_MAGIC))
    return begin[_PREAMBLE:] == _MAGIC or (begin[:2] in _BARE and b"\0" in begin[2:8])


def holds_dicom(folder: Path) -> bool:
    """Return whether a DICOM file lies in a folder or in its folders; nothing is refused, and the first one is enough.

    Args:
        folder: The folder. A single DICOM file counts, too.
    """
    return any(map(_claims, [folder] if folder.is_file() else _files_in(folder)))


def _files_in(folder: Path) -> Iterator[Path]:
    """The files of a folder and its folders, which may be DICOM: no notes of other programs, and no list of files."""
    for place, _, files in os.walk(folder):
        names = (name for name in files if not name.startswith(".") and name.upper() != "DICOMDIR")
        yield from (Path(place) / name for name in names)


def dicom_files(folder: Path) -> tuple[Path, ...]:
    """Return the DICOM files in a folder and in its folders, sorted.

    A DICOMDIR is a list of files, and none itself. Files that begin with a dot are other programs' notes.

    Args:
        folder: The folder. A single DICOM file counts, too.

    Raises:
        UserError: A folder inside is a link, whose files would not be found.
        OSError: A file cannot be read.
    """
    if folder.is_file():
        return (folder,) if _claims(folder) else ()
    for place, folders, _ in os.walk(folder):
        if linked := [name for name in folders if (Path(place) / name).is_symlink()]:
            raise UserError(
                f"{Path(place) / linked[0]} is a link to another folder: copy it, or give that folder itself"
            )
    found = sorted(_files_in(folder))
    claimed = tuple(path for path in found if _claims(path))
    folders_of_slices = {path.parent for path in claimed}
    if empty := [path for path in found if path.parent in folders_of_slices and not path.stat().st_size]:
        raise UserError(f"{empty[0]} is empty: is it a slice that was not copied?")
    return claimed


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
    except MemoryError:
        raise
    except Exception as error:
        raise UserError(f"{path} is truncated, corrupt, or no DICOM file: {error}") from error


def pixels_of(path: Path, header: Any) -> np.ndarray:
    """Return the pixels of a file as (frames, rows, columns), in the number type that they are stored in.

    Args:
        path: The file, for messages.
        header: What `read_dicom` returned, with pixels.

    Raises:
        UserError: There are none, or they cannot be decoded.
    """
    if not any(name in header for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UserError(f"{path} holds no pixels")
    try:
        found = np.asarray(header.pixel_array)
    except MemoryError:
        raise
    except Exception as error:
        syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
        raise UserError(
            f"{path}: its pixels cannot be decoded (transfer syntax {getattr(syntax, 'name', 'unknown')}): {error}. "
            "Some compressed files need pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        ) from error
    return found.reshape(-1, *found.shape[-2:])


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what a missing or senseless entry of a DICOM file raises into an error that names the file.

    Raises:
        UserError: The block found such an entry.
    """
    try:
        yield
    except UserError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} lacks an entry, or holds one that makes no sense: {error}") from error


def _series(uid: str, files: Sequence[tuple[Path, Any]]) -> Series:
    first = files[0][1]
    modality = str(first.get("Modality", "unknown"))
    description = str(first.get("SeriesDescription", "")).strip()
    return Series(
        uid=uid, paths=tuple(path for path, _ in files), modality=modality, description=description,
        kind=_kind(modality, [one for _, one in files]), patient=str(first.get("PatientID") or "").strip(),
        study=str(first.get("StudyInstanceUID") or ""),
    )  # fmt: skip


def _kind(modality: str, headers: Sequence[Any]) -> str:
    if modality in _OBJECTS:
        return _OBJECTS[modality]
    survey = all("LOCALIZER" in list(_several(header.get("ImageType"))) for header in headers)
    placed = any("ImagePositionPatient" in one or "PerFrameFunctionalGroupsSequence" in one for one in headers)
    pictures = any("Rows" in header for header in headers)
    return "image" if pictures and placed and not survey and modality not in _BESIDE else "other"


def _several(value: Any) -> Iterator[str]:
    if value is not None:
        yield from [value] if isinstance(value, str) else value
