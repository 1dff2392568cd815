"""Units of length in files. Inside voxward every length is in millimetres."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# How many of a unit make up a millimetre. Dividing by these keeps 25 micrometres the number that 0.025 mm is.
NIFTI_PER_MM: Mapping[int, float] = {1: 1e-3, 2: 1.0, 3: 1e3}
"""By the code in NIfTI's xyzt_units: metre, millimetre, micrometre. 0 (unknown) and all others are taken as mm."""

_NAMES = {
    1e-3: ("m", "meter", "meters", "metre", "metres"),
    0.1: ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    1.0: ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    1e3: (
        "um", "\N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m", "micron", "microns", "micrometer", "micrometers",
        "micrometre", "micrometres",
    ),
    1e6: ("nm", "nanometer", "nanometers", "nanometre", "nanometres"),
}  # fmt: skip
NAMED_PER_MM: Mapping[str, float] = {name: per_mm for per_mm, names in _NAMES.items() for name in names}
"""By the name that NRRD and MetaImage files give a unit, in lower case. All other names are taken as mm."""


def named_per_mm(name: str) -> float:
    """Return how many of a unit make up a millimetre, 1 for a unit that is not known.

    Args:
        name: The unit's name as a NRRD or MetaImage file gives it.
    """
    return NAMED_PER_MM.get(name.strip().strip('"').strip().lower(), 1.0)


def in_mm(affine: np.ndarray, per_mm: float | np.ndarray) -> np.ndarray:
    """Return an affine whose result is in millimetres.

    Args:
        affine: (4, 4), from voxel indices to the unit of a file.
        per_mm: How many of the unit make up a millimetre; several numbers for one unit per axis of space.
    """
    scaled = np.array(affine, float)
    scaled[:3] /= np.broadcast_to(per_mm, 3)[:, None]
    return scaled


def from_mm(affine: np.ndarray, per_mm: float | np.ndarray) -> np.ndarray:
    """Return an affine whose result is in the unit of a file, the inverse of `in_mm`."""
    scaled = np.array(affine, float)
    scaled[:3] *= np.broadcast_to(per_mm, 3)[:, None]
    return scaled
