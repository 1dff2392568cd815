"""Masks and changed images as DICOM files that belong to the study of their source."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import voxward
from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.data.dicom.files import naming, read_dicom
from voxward.data.dicom.packages import highdicom, pydicom
from voxward.data.dicom.source import DicomSource

NAME = "voxward"
DESCRIPTION = "derived, adversarial test image"
"""What an attacked image calls itself, so that nobody takes it for a patient's."""
_SEG_NUMBER, _IMAGE_NUMBER = 9100, 9200
# An intensity that a file of whole numbers cannot hold misses one by more than rounding.
_ROUNDING, _FAR = 1e-3, 0.05
_LONGEST = 64
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
# Lists of the standard that hold parts of the body, and nothing else.
_ANATOMY = ("cid4", "cid4030", "cid4031", "cid7140", "cid7153", "cid7154")

Code = tuple[str, str, str]
"""Scheme, value and meaning, such as ("SCT", "10200004", "Liver")."""


def write_segmentation(
    path: Path, label: Volume, labels: LabelSet, source: DicomSource, codes: Mapping[str, Any]
) -> None:
    """Write a mask as a DICOM segmentation (SEG) of its source's slices.

    Every class is a segment, whether it is there or not; frames without a voxel are left out, unless all are.

    Args:
        path: The file.
        label: The mask (i, j, k), of the values of the labels.
        labels: The classes.
        source: The slices.
        codes: What classes are, by their names, as `codes_of` reads it.

    Raises:
        UserError: The mask has a value that is no class.
        MissingPackageError: highdicom is not installed.
    """
    if unknown := set(np.unique(label.array).tolist()) - set(labels.values):
        raise UserError(f"the mask of {source.case} holds {sorted(unknown)}, which are no values of a class")
    named = list(zip(labels.names, labels.values, strict=True))[1:]
    frames = source.grid.frames
    multi = frames[0].number is not None
    if multi and len({frame.path for frame in frames}) > 1:
        raise UserError(
            f"case {source.case} lies in several multi-frame files, of which no segmentation can be written"
        )
    slices = [_completed(read_dicom(path)) for path in dict.fromkeys(frame.path for frame in frames)]
    # In a multi-frame file the slices have an order of their own.
    order = np.argsort([frame.number or 0 for frame in frames]) if multi else np.arange(len(frames))
    stack = np.stack([label.array == value for _, value in named], -1).transpose(2, 1, 0, 3)[order]
    with warnings.catch_warnings(), naming(frames[0].path):
        warnings.simplefilter("ignore")  # of what the source itself leaves out
        found = _segmentation(slices, stack.astype(np.uint8), [name for name, _ in named], codes)
        found.save_as(path)


def _segmentation(slices: Sequence[Any], stack: np.ndarray, names: Sequence[str], codes: Mapping[str, Any]) -> Any:
    package = highdicom()
    algorithm = package.AlgorithmIdentificationSequence(
        NAME, _code(("DCM", "123110", "Artificial Intelligence")), voxward.__version__
    )
    described = [
        package.seg.SegmentDescription(
            number, name, *(_code(code) for code in _meaning(name, codes)),
            package.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm,
        )
        for number, name in enumerate(names, 1)
    ]  # fmt: skip
    return package.seg.Segmentation(
        source_images=slices, pixel_array=stack, segmentation_type="BINARY", segment_descriptions=described,
        series_instance_uid=package.UID(), series_number=_SEG_NUMBER, sop_instance_uid=package.UID(),
        instance_number=1, manufacturer=NAME, manufacturer_model_name=NAME, software_versions=voxward.__version__,
        device_serial_number="none", omit_empty_frames=True, series_description=f"segmentation by {NAME}",
        content_label="SEGMENTATION",
    )  # fmt: skip


def _completed(header: Any) -> Any:
    """A source with the entries that must be there and may be empty, which anonymised files often lack."""
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def write_series(folder: Path, volume: Volume, source: DicomSource) -> None:
    """Write a changed image as a DICOM series: the source's slices with other pixels and new identifiers.

    It calls itself a derived, adversarial test image.

    The patient's name and the study stay those of the source: nothing is de-identified.

    Args:
        folder: The folder, which gets a file for each slice.
        volume: The image (1, i, j, k).
        source: The slices.

    Raises:
        UserError: The source is one multi-frame file, or it cannot hold an intensity.
        MissingPackageError: pydicom is not installed.
    """
    package, frames = pydicom(), source.grid.frames
    if frames[0].number is not None:
        raise UserError(f"{frames[0].path} is a multi-frame file: only series of single slices can be written again")
    series = package.uid.generate_uid()
    for n, frame in enumerate(frames):
        header = read_dicom(frame.path)
        if not header.file_meta.TransferSyntaxUID.is_little_endian:
            raise UserError(f"{frame.path} is big-endian, and cannot be written again")
        slope, intercept = frame.rescale
        header.PixelData = _stored(header, (volume.array[0, :, :, n].T.astype(np.float64) - intercept) / slope, source)
        header.file_meta.TransferSyntaxUID = package.uid.ExplicitVRLittleEndian
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = package.uid.generate_uid()
        header.SeriesInstanceUID, header.SeriesNumber, header.InstanceNumber = series, _IMAGE_NUMBER, n + 1
        header.SeriesDescription = header.ImageComments = DESCRIPTION
        header.DerivationDescription = f"{DESCRIPTION}, by {NAME} {voxward.__version__}"
        header.ImageType = ["DERIVED", "SECONDARY", *list(header.get("ImageType", []))[2:]]
        header["PixelData"].VR, header["PixelData"].is_undefined_length = "OW", False
        for stale in ("SmallestImagePixelValue", "LargestImagePixelValue"):
            if stale in header:
                del header[stale]
        header.save_as(folder / f"{n:04d}.dcm", enforce_file_format=True)


def _stored(header: Any, values: np.ndarray, source: DicomSource) -> bytes:
    whole = np.rint(values)
    signed, bits = int(header.get("PixelRepresentation", 0)), int(header.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    # Intensities were rounded to float32; what lies between two steps is far more than that.
    rounding = min(_ROUNDING + 4 * float(np.finfo(np.float32).eps) * float(np.abs(values).max()), _FAR)
    if not (off := float(np.abs(values - whole).max())) <= rounding:
        raise UserError(
            f"the volume of {source.case} holds an intensity between two that its files can hold ({off:.2g})"
        )
    if not low <= whole.min() <= whole.max() <= high:
        raise UserError(
            f"the volume of {source.case} holds {whole.min():g} to {whole.max():g}, and its files store {low} to {high}"
        )
    kind = np.dtype(f"{'i' if signed else 'u'}{int(header.BitsAllocated) // 8}")
    return bytes(whole.astype(kind).tobytes())


def codes_of(given: Any, path: Path, classes: Sequence[str]) -> Mapping[str, tuple[Code, Code]]:
    """Return what a dataset.json says that its classes are, for programs.

    Args:
        given: Its entry "codes", {class: {"category": [scheme, value, meaning], "type": [scheme, value, meaning]}}; or
            None.
        path: The file, for messages.
        classes: The names of all classes.

    Raises:
        UserError: The entry has another form, or names no class; or a class has a name that no segment can have.
    """
    for name in classes:
        if len(name) > _LONGEST or "\\" in name:
            raise UserError(f"{path}: {name!r} cannot name a segment: at most {_LONGEST} characters, and no backslash")
    if isinstance(given, Mapping) and (unknown := sorted(set(given) - set(classes))):
        raise UserError(f'{path}: "codes" names {unknown[0]!r}, which is no class; they are {", ".join(classes)}')
    found = {}
    for name, entry in ({} if given is None else given).items() if isinstance(given, Mapping | None) else [("", given)]:
        parts = [entry.get(part) for part in ("category", "type")] if isinstance(entry, Mapping) else [None]
        if not all(isinstance(one, list) and len(one) == 3 and all(map(_is_text, one)) for one in parts):
            raise UserError(
                f'{path}: "codes" must be {{class: {{"category": [scheme, value, meaning], "type": [...]}}}}, got '
                f"{name!r}: {entry!r}"
            )
        category, kind = (_as_code(one) for one in parts)
        found[str(name)] = (category, kind)
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value.strip()) > 0 and len(value) <= _LONGEST


def _as_code(given: Any) -> Code:
    scheme, value, meaning = given
    return scheme, value, meaning


def _meaning(name: str, codes: Mapping[str, Any]) -> Sequence[Code]:
    """Category and type of a class: what is declared, or the SNOMED term of its name, or any tissue."""
    if name in codes:
        return tuple(codes[name])
    terms = pydicom().sr.codedict.codes
    keyword = "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z]+", name))
    for group in _ANATOMY if keyword else ():
        if (found := getattr(getattr(terms, group), keyword, None)) is not None:
            return ("SCT", "91723000", "Anatomical Structure"), (found.scheme_designator, found.value, found.meaning)
    return ("SCT", "85756007", "Tissue"), ("SCT", "85756007", "Tissue")


def _code(code: Code) -> Any:
    scheme, value, meaning = code
    return highdicom().sr.CodedConcept(value, scheme, meaning)
