"""What a file can hold of intensities that were computed: its own number type, and for integers its own steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from voxward.core.case import Scaling, Volume
from voxward.core.errors import UserError

# The integer that a scaled float32 intensity stands for is recovered with an error below this (see
# `Scaling.reversible`).
_ROUNDING = 1 / 64
_ULPS = 3


def as_stored(
    adversarial: np.ndarray, reference: np.ndarray, kind: np.dtype[Any], scaling: Scaling | None = None
) -> np.ndarray:
    """Return adversarial intensities in a file's number type, with integers rounded towards a reference.

    So a file never lies further from the reference than the array did, if the reference holds integers itself. Values
    beyond the limits of the type are cut off. 64-bit integers become 32-bit ones, which every file format has.

    Args:
        adversarial: The adversarial intensities (c, i, j, k).
        reference: The intensities (c, i, j, k) that were perturbed.
        kind: The number type of the file.
        scaling: How the file stores intensities as integers; then the integers are returned instead of intensities.

    Returns:
        The stored values (c, i, j, k).

    Raises:
        UserError: 32-bit integers cannot hold the reference.
    """
    if scaling is not None:
        return as_stored(*_unscaled(adversarial, reference, scaling), np.dtype(scaling.kind))
    if kind.kind == "f":
        return adversarial.astype(kind)
    if kind.itemsize == 8:
        if np.abs(reference).max(initial=0) > np.iinfo(np.int32).max:
            raise UserError("the volume's integers do not fit 32 bits, so that it cannot be written as a file")
        kind = _written_as(kind)
    near, far = reference.astype(np.float64), adversarial.astype(np.float64)
    whole = np.select([far > near, far < near], [np.floor(far), np.ceil(far)], np.rint(near))
    limits = np.iinfo(kind)
    stored: np.ndarray = np.clip(whole, limits.min, limits.max).astype(kind)
    return stored


def what_a_file_holds(clean: Volume) -> tuple[tuple[float, float] | None, tuple[float, ...]]:
    """Return which intensities a file can hold that stores a volume as its own file does.

    Args:
        clean: The volume (c, i, j, k).

    Returns:
        The least and the greatest intensity, None without limits; and for each channel the distance between two
        intensities, empty where the file holds any value.
    """
    kind, channels, limits, step = clean.array.dtype, len(clean.array), None, 0.0
    if clean.scaling is not None:
        limits, step = clean.scaling.limits, abs(clean.scaling.slope)
    elif kind.kind in "iu":
        whole = np.iinfo(_written_as(kind))
        limits, step = (float(whole.min), float(whole.max)), 1.0
    return limits, (step,) * channels if step else ()


def _written_as(kind: np.dtype[Any]) -> np.dtype[Any]:
    """The number type of a file of integers: every file format has those of 32 bits."""
    return np.dtype(np.int32) if kind.itemsize == 8 else kind


def as_read(adversarial: np.ndarray, clean: Volume) -> Volume:
    """Return adversarial intensities as they are read from a file that stores them as it stores the clean volume.

    Args:
        adversarial: The adversarial intensities (c, i, j, k).
        clean: The clean volume, whose number type, scaling and place in space the file has.

    Returns:
        A volume of its own: no array is shared.

    Raises:
        UserError: A file cannot hold the clean volume.
    """
    stored, scaling = as_stored(adversarial, clean.array, clean.array.dtype, clean.scaling), clean.scaling
    if scaling is not None:
        stored = (stored.astype(np.float64) * scaling.slope + scaling.intercept).astype(clean.array.dtype)
    return Volume(stored, clean.affine.copy(), scaling)


def _unscaled(adversarial: np.ndarray, reference: np.ndarray, scaling: Scaling) -> tuple[np.ndarray, np.ndarray]:
    """Return both arrays in steps of the scaling; a reference that the file can hold is made exactly whole there."""
    near = (reference.astype(np.float64) - scaling.intercept) / scaling.slope
    near = _whole(near, _ROUNDING)
    far = near + (adversarial.astype(np.float64) - reference) / scaling.slope
    # An attack returns intensities that the file can hold, up to the rounding of the three numbers they are made of.
    ulp = np.spacing(np.maximum(np.abs(adversarial), np.abs(reference)).astype(np.float32)).astype(np.float64)
    return _whole(far, np.minimum(_ULPS * ulp / abs(scaling.slope), 2 * _ROUNDING)), near


def _whole(steps: np.ndarray, tolerance: np.ndarray | float) -> np.ndarray:
    """The steps, those within a tolerance of a whole number as that number."""
    whole = np.rint(steps)
    return np.where(np.abs(steps - whole) <= tolerance, whole, steps)
