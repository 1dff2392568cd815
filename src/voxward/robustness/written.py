"""An adversarial volume as it would arrive: a file in the source's own number type, segmented like any other file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.case import Scaling, Volume
from voxward.core.errors import UserError
from voxward.data.io import read_image, write_image

Segment = Callable[[Volume], tuple[np.ndarray, Mapping[str, Any]]]
"""A function from a volume to class indices (i, j, k) in its geometry, and notes for the record."""
# The integer that a scaled float32 intensity stands for is recovered with an error below this (see
# `Scaling.reversible`).
_ROUNDING = 1 / 64


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
        kind = np.dtype(np.int32)
    near, far = reference.astype(np.float64), adversarial.astype(np.float64)
    whole = np.select([far > near, far < near], [np.floor(far), np.ceil(far)], np.rint(near))
    limits = np.iinfo(kind)
    stored: np.ndarray = np.clip(whole, limits.min, limits.max).astype(kind)
    return stored


def _unscaled(adversarial: np.ndarray, reference: np.ndarray, scaling: Scaling) -> tuple[np.ndarray, np.ndarray]:
    """Return both arrays in steps of the scaling; a reference that the file can hold is made exactly whole there."""
    near = (reference.astype(np.float64) - scaling.intercept) / scaling.slope
    whole = np.rint(near)
    near = np.where(np.abs(near - whole) <= _ROUNDING, whole, near)
    return near + (adversarial.astype(np.float64) - reference) / scaling.slope, near


@dataclass(frozen=True, eq=False)
class Stored:
    """A written volume as the deployed model sees it.

    Attributes:
        mask: The class indices (i, j, k) that the model found.
        written: The intensities (c, i, j, k) that the file holds.
        notes: What else is worth a line in the record.
    """

    mask: np.ndarray
    written: np.ndarray
    notes: Mapping[str, Any] = field(default_factory=dict)


def segment_stored(
    segment: Segment,
    source: Volume,
    reference: np.ndarray,
    adversarial: np.ndarray,
    path: Path | None,
    template: Path | None = None,
) -> Stored:
    """Write an adversarial volume as a file, read it back, and segment it.

    Args:
        segment: The ordinary prediction, which finds its own crop box and statistics.
        source: The clean volume, whose number type, scaling and place in space the file has.
        reference: The intensities (c, i, j, k) that were perturbed (see `as_stored`).
        adversarial: The adversarial intensities (c, i, j, k).
        path: Where the file is kept; None writes a file that is removed again.
        template: The clean volume's file, whose units and position fields the file has.

    Returns:
        The mask, the intensities of the file, and the notes of the prediction.
    """
    stored = as_stored(adversarial, reference, source.array.dtype, source.scaling)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "adversarial.nii" if path is None else path
        write_image(target, stored, source.affine, source.scaling, template)
        found = read_image([target])
        mask, notes = segment(found)
        return Stored(mask, found.array, notes)
