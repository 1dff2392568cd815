"""Folders of DICOM files as cases: which of their series are the channels, and which is the ground truth."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxward.core.choices import DicomSeries
from voxward.core.errors import UserError
from voxward.core.names import composed
from voxward.data.dicom.files import Series, holds_dicom, naming, read_dicom, series_in
from voxward.data.dicom.labels import segment_names, structure_names

_MODALITIES = {"CT": "CT", "PT": "PET", "MR": "MR"}


@dataclass(frozen=True, eq=False)
class DicomCase:
    """The series of a case that are read.

    Attributes:
        id: The name of its folder.
        folder: The folder.
        channels: The names of the channels.
        images: The image series, one per channel.
        truth: The series with the ground truth; None without one.
    """

    id: str
    folder: Path
    channels: tuple[str, ...]
    images: tuple[Series, ...]
    truth: Series | None


def case_folders(inputs: Sequence[Path]) -> tuple[Path, ...]:
    """Return the folder of each case.

    A folder that itself holds DICOM files is a case. Otherwise each of its folders is one, with all that lies in it.

    Args:
        inputs: The folders; a multi-frame file is a case, too.

    Raises:
        FileNotFoundError: An input is missing.
        UserError: An input holds no DICOM file.
    """
    found: list[Path] = []
    for entry in inputs:
        if not entry.exists():
            raise FileNotFoundError(f"no file or folder {entry}")
        inner = [] if entry.is_file() else sorted(path for path in entry.iterdir() if not path.name.startswith("."))
        if entry.is_file() or any(path.is_file() and holds_dicom(path) for path in inner):
            own = [entry] if holds_dicom(entry) else []
        else:
            own = [path for path in inner if path.is_dir() and holds_dicom(path)]
            if own and (bare := [path.name for path in inner if path.is_dir() and path not in own]):
                warnings.warn(
                    f"{entry}: the folders {', '.join(bare[:5])} hold no DICOM file, and are no case", stacklevel=3
                )
        if not own:
            raise UserError(f"{entry} holds no DICOM file")
        found += own
    return tuple(found)


def case_id(folder: Path) -> str:
    """Return the name of a case: that of its folder, or that of its file without `.dcm`."""
    resolved = folder.resolve()
    return composed(resolved.stem if folder.is_file() and resolved.suffix.lower() == ".dcm" else resolved.name)


def open_case(folder: Path, wanted: DicomSeries = DicomSeries(), truth: bool = True) -> DicomCase:
    """Sort the files of a case into series, and choose those that are read.

    Args:
        folder: The folder of the case, or its only file.
        wanted: Which series are read.
        truth: Whether the ground truth is looked for; otherwise none is, and what lies there stops nothing.

    Raises:
        UserError: A file cannot be read, or the series that are wanted are not there, or not the only ones; the message
            lists the series that are.
    """
    every = series_in(folder)
    images = [one for one in every if one.kind == "image"]
    truths = [one for one in every if truth and one.kind in ("segmentation", "contours")]
    if wanted.series:
        chosen = tuple(_the_one(folder, images, text, "image series") for _, text in wanted.channels)
        if len({one.uid for one in chosen}) < len(chosen):
            raise UserError(f"{folder}: two channels are the same series, {chosen[0].title}: give other texts for them")
        names = tuple(name for name, _ in wanted.channels)
    else:
        if not images and every:
            raise UserError(
                f"{folder} holds no image series that says where its slices lie; it holds "
                f"{'; '.join(one.title for one in every)}"
            )
        chosen = (_the_one(folder, images, "", "image series"),)
        names = (_MODALITIES.get(chosen[0].modality, chosen[0].modality),)
    drawn = _truth(folder, truths, wanted.truth)
    if drawn is not None:
        _refuse_another_patient(chosen[0], drawn)
    return DicomCase(case_id(folder), folder, names, chosen, drawn)


def _truth(folder: Path, found: Sequence[Series], text: str) -> Series | None:
    return _the_one(folder, found, text, "segmentation or set of contours") if found or text else None


def _refuse_another_patient(image: Series, truth: Series) -> None:
    if image.patient and truth.patient and image.patient != truth.patient:
        raise UserError(f"{truth.paths[0]} is of another patient than the image (PatientID)")
    if image.study != truth.study:
        warnings.warn(f"{truth.paths[0]} is of another study than the image: is it of this scan?", stacklevel=4)


def names_in(case: DicomCase) -> tuple[str, ...]:
    """Return the names of the segments or structures of a case's ground truth, without its pixels.

    Raises:
        UserError: The file cannot be read.
    """
    found: list[str] = []
    for path in case.truth.paths if case.truth is not None else ():
        header = read_dicom(path, pixels=False)
        with naming(path):
            found += [*segment_names(header).values(), *structure_names(header).values()]
    return tuple(dict.fromkeys(found))


def _the_one(folder: Path, found: Sequence[Series], text: str, what: str) -> Series:
    exact = [one for one in found if text and text.lower() in (one.description.lower(), one.uid)]
    fitting = exact or [one for one in found if text.lower() in one.description.lower()]
    if len(fitting) == 1:
        return fitting[0]
    option = "--truth" if what.startswith("seg") else "--series"
    held = "; ".join(one.title for one in found) or "none"
    asked = f" whose description holds {text!r}" if text else ""
    raise UserError(
        f"{folder}: there must be one {what}{asked}, got {len(fitting)}. It holds {held}"
        + (f". Choose with {option}, by a part of the description" if len(fitting) > 1 else "")
    )
