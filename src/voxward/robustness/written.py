"""An adversarial volume as it would arrive: a file in the source's own number type, segmented like any other file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.case import Volume
from voxward.data.io import read_image, write_image
from voxward.data.stored_values import as_stored

Segment = Callable[[Volume], tuple[np.ndarray, Mapping[str, Any]]]
"""A function from a volume to class indices (i, j, k) in its geometry, and notes for the record."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A written volume as the deployed model sees it.

    Attributes:
        mask: The class indices (i, j, k) that the model found, or their masks where regions are scored.
        written: The intensities (c, i, j, k) that the file holds.
        label: The class indices (i, j, k) that the model found.
        notes: What else is worth a line in the record.
    """

    mask: np.ndarray
    written: np.ndarray
    label: np.ndarray
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
        return Stored(mask, found.array, mask, notes)
