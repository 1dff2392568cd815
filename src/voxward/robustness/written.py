"""The attack as it would arrive: a file in the source's own number type, read back and segmented like any other."""

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
"""From a volume to class indices (i, j, k) in its geometry, and notes for the books."""
# An integer behind a scaled intensity in float32 is found again to this (Scaling.reversible says that it can be).
_ROUNDING = 1 / 64


def as_stored(
    adversarial: np.ndarray, reference: np.ndarray, kind: np.dtype[Any], scaling: Scaling | None = None
) -> np.ndarray:
    """Adversarial intensities in a file's number type; integers are rounded towards `reference`; all (c, i, j, k).

    So a file never lies further from the reference than the tensor did, if that holds integers itself. What the type
    cannot hold is cut off. 64-bit integers become 32-bit ones, which every file format has. Raises ValueError where
    these cannot hold the reference. scaling: of the file, whose integers are found then, instead of intensities.
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
    """Both in steps of the scaling; a reference that a file holds is whole there, and no rounding moves it off."""
    near = (reference.astype(np.float64) - scaling.intercept) / scaling.slope
    whole = np.rint(near)
    near = np.where(np.abs(near - whole) <= _ROUNDING, whole, near)
    return near + (adversarial.astype(np.float64) - reference) / scaling.slope, near


@dataclass(frozen=True, eq=False)
class Stored:
    """A written volume as the deployed model sees it: its mask (i, j, k), and the intensities (c, i, j, k) it holds.

    notes: what else is worth a line in the books.
    """

    mask: np.ndarray
    written: np.ndarray
    notes: Mapping[str, Any] = field(default_factory=dict)


def segment_stored(
    segment: Segment, source: Volume, reference: np.ndarray, adversarial: np.ndarray, path: Path | None
) -> Stored:
    """Write the adversarial volume (to `path`, or to a file that is removed again), read it back, segment it.

    source: whose number type, scaling and place the file has. reference: what was perturbed, see `as_stored`.
    segment: the ordinary prediction, which finds its own crop and statistics.
    """
    stored = as_stored(adversarial, reference, source.array.dtype, source.scaling)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "adversarial.nii" if path is None else path
        write_image(target, stored, source.affine, source.scaling)
        found = read_image([target])
        mask, notes = segment(found)
        return Stored(mask, found.array, notes)
