"""What a NIfTI header says of the voxels' place, before nibabel repairs it in silence."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from voxward.core.errors import UserError
from voxward.data.units import NIFTI_PER_MM

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


def geometry_remarks(header: Any, moved: float, edge: float) -> Iterator[tuple[str, str]]:
    """Describe what is legal in a header and deserves a look.

    Args:
        header: A header from `raw_header`.
        moved: How far qform and sform lie apart at the far corner, in mm; 0 where only one is used.
        edge: The smallest voxel edge in mm.

    Yields:
        A short name of the remark, and the remark, which begins with a verb.
    """
    codes = {name: int(header[f"{name}_code"]) for name in ("qform", "sform")}
    for name, code in codes.items():
        if code != 0 and code not in _FORM_CODES:
            yield "form code", f"has {name}_code {code}, which means nothing; its {name} is not used"
    if not any(code in _FORM_CODES for code in codes.values()):
        yield "no position", "says neither by qform nor by sform where it lies: its centre is taken as the origin"
    if moved > 0:
        yield (
            "qform and sform",
            f"has a qform and a sform that disagree: the far corners are {moved:.3g} mm ({moved / edge:.2g} of a "
            "voxel) apart; the sform is used",
        )
