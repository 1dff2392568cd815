"""The voxel size and the units in NRRD and MetaImage headers, which ITK does not judge or does not use."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from voxward.core.errors import UserError
from voxward.data.itk_header import header_fields
from voxward.data.units import named_per_mm

# A header of ITK is shorter.
_LONGEST_WRITTEN = 1 << 16
# Kinds of NRRD axes that are axes of space; all others list the parts of a voxel.
_SPATIAL = ("domain", "space", "none", "???")


def units_per_mm(path: Path) -> np.ndarray:
    """Return how many of a file's units of length make up a millimetre, for each of the three axes of space.

    NRRD files say so in `space units` (or in `units` where there are no space directions), MetaImage files in
    `DistanceUnits`. No unit, or none that is known, is mm.

    Raises:
        UserError: The header is not of the plain form, or it says nowhere how large a voxel is.
    """
    fields = header_fields(path)
    if path.suffix.lower() != ".nrrd":
        _refuse_unknown_size(_numbers(fields.get("ElementSpacing", fields.get("ElementSize", ""))), "ElementSpacing")
        return np.full(3, named_per_mm(fields.get("DistanceUnits", "")))
    axes = _spatial_axes(fields)
    if "spacedirections" in fields:
        names = _quoted(fields.get("spaceunits", ""))
    else:
        spacings = _numbers(fields.get("spacings", ""))
        _refuse_unknown_size([spacings[axis] for axis in axes if axis < len(spacings)], "spacings")
        units = _quoted(fields.get("units", ""))
        names = [units[axis] for axis in axes if axis < len(units)]
    found = [named_per_mm(name) for name in names[:3]]
    return np.array(found + [1.0] * (3 - len(found)))


def state_units(path: Path, fields: Mapping[str, str]) -> None:
    """Add fields to the header of a file that ITK wrote.

    Args:
        path: The file, which is written anew.
        fields: The fields from `unit_fields`.
    """
    nrrd = path.suffix.lower() == ".nrrd"
    lines = "".join(f"{name}{': ' if nrrd else ' = '}{value}\n" for name, value in fields.items())
    copy = path.with_name(f"{path.stem}-units{path.suffix}")
    with path.open("rb") as source, copy.open("wb") as target:
        start = source.read(_LONGEST_WRITTEN)
        place = start.index(b"\n\n" if nrrd else b"\nElementDataFile") + 1
        target.write(start[:place] + lines.encode() + start[place:])
        shutil.copyfileobj(source, target)
    copy.replace(path)


def unit_fields(path: Path) -> dict[str, str]:
    """Return the fields of a header that state the unit of length, as a file of the same type takes them."""
    fields = header_fields(path)
    if path.suffix.lower() != ".nrrd":
        return {"DistanceUnits": fields["DistanceUnits"]} if "DistanceUnits" in fields else {}
    if "spacedirections" in fields:
        return {"space units": fields["spaceunits"]} if "spaceunits" in fields else {}
    units = _quoted(fields.get("units", ""))
    named = [units[axis] for axis in _spatial_axes(fields) if axis < len(units)]
    return {"space units": " ".join(f'"{name}"' for name in named)} if named else {}


def _spatial_axes(fields: Mapping[str, str]) -> list[int]:
    dimension = len(fields.get("sizes", "").split())
    kinds = fields.get("kinds", "").lower().split()
    if len(kinds) != dimension:
        kinds = ["domain"] * dimension
    return [axis for axis, kind in enumerate(kinds) if kind in _SPATIAL][:3]


def _quoted(text: str) -> list[str]:
    """Words, with or without quotation marks."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^\s"]+)', text)]


def _numbers(text: str) -> list[float]:
    return list(_parsed(text.split()))


def _parsed(words: list[str]) -> Iterator[float]:
    for word in words:
        try:
            yield float(word)
        except ValueError:
            yield math.nan


def _refuse_unknown_size(sizes: list[float], name: str) -> None:
    if not sizes:
        raise UserError(f"its voxel size is not known: the header has no {name}")
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        raise UserError(f"its voxel size is not known: {name} is {' '.join(f'{size:g}' for size in sizes)}")
