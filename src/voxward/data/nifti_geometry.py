"""What a NIfTI header says of the voxels' place, before nibabel repairs it in silence."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from voxward.core.errors import UserError
from voxward.core.types import Size3
from voxward.data.places import apart
from voxward.data.units import NIFTI_PER_MM, in_mm
from voxward.data.volume_file import header_path

_HEADER_1, _HEADER_2 = 348, 540
# Codes of the coordinate systems that the standard knows (0: the form is not to be used).
_FORM_CODES = range(1, 6)


def raw_header(path: Path) -> Any:
    """Read a NIfTI header as it is stored.

    Args:
        path: A file that begins with a NIfTI header, packed or not.

    Returns:
        A header of nibabel, nothing of which is checked or mended; None where the file begins with something else.
    """
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
        start = file.read(_HEADER_2)
    sizes = {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}
    for size, kind in ((_HEADER_1, nibabel.Nifti1Header), (_HEADER_2, nibabel.Nifti2Header)):
        if size in sizes and len(start) >= size:
            return kind(start[:size], check=False)
    return None


def units_per_mm(header: Any) -> float:
    """Return how many of the header's unit of length make up a millimetre. No unit, or none that is known, is mm."""
    return NIFTI_PER_MM.get(int(header["xyzt_units"]) & 7, 1.0)


def refuse_unknown_size(header: Any) -> None:
    """Raise UserError where a voxel's size is nowhere stated: nibabel would take 1 for a 0, and drop a sign.

    Args:
        header: A header from `raw_header`.
    """
    if int(header["sform_code"]) in _FORM_CODES:
        return  # the sform states it
    axes = min(int(header["dim"][0]), 3)
    sizes = [float(size) for size in header["pixdim"][1 : 1 + axes]]
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        shown = ", ".join(f"{size:g}" for size in sizes)
        raise UserError(f"its voxel size is not known: pixdim is {shown}, and there is no sform")


def header_remarks(path: Path, shape: Size3, tolerance: float) -> Iterator[tuple[str, str]]:
    """Describe what is legal in a header and deserves a look.

    Args:
        path: The file.
        shape: Its shape in voxels.
        tolerance: How far corners may lie apart, in voxels, before qform and sform are said to disagree.

    Yields:
        A short name of the remark, and the remark, which begins with a verb.
    """
    header = raw_header(header_path(path))
    if header is None:
        return
    codes = {name: int(header[f"{name}_code"]) for name in ("qform", "sform")}
    for name, code in codes.items():
        if code != 0 and code not in _FORM_CODES:
            yield "form code", f"has {name}_code {code}, which means nothing: its {name} is not used"
    stated = [code in _FORM_CODES for code in codes.values()]
    if not any(stated):
        yield "no position", "says neither by qform nor by sform where it lies: the centre is taken as the origin"
    if all(stated):
        per_mm = units_per_mm(header)
        found = apart(in_mm(_qform(header), per_mm), in_mm(header.get_sform(), per_mm), shape)
        if found.exceeds(tolerance):
            yield "qform and sform", f"has a qform and a sform that disagree ({found}): the sform is used"


def _qform(header: Any) -> np.ndarray:
    """The qform as it is meant; NaN where it is none."""
    if float(header["pixdim"][0]) not in (-1.0, 1.0):
        header["pixdim"][0] = 1  # as the standard has it
    try:
        return np.array(header.get_qform(), float)
    except (ValueError, HeaderDataError):
        return np.full((4, 4), np.nan)
