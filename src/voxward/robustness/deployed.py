"""The attack as it would arrive: a file in the source's own number type, read back and segmented like any other."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from voxward.core.case import Volume
from voxward.data.io import read_image, write_image
from voxward.inference.predictor import Predictor


def as_stored(adversarial: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Adversarial intensities in the number type of `source`, both (c, i, j, k); integers are rounded towards it.

    So a file never lies further from the source than the tensor did. What the type cannot hold is cut off.
    """
    if source.dtype.kind == "f":
        return adversarial.astype(source.dtype)
    steps = np.trunc(adversarial.astype(np.float64) - source.astype(np.float64))
    limits = np.iinfo(source.dtype)
    stored: np.ndarray = np.clip(source.astype(np.float64) + steps, limits.min, limits.max).astype(source.dtype)
    return stored


def segment_stored(predictor: Predictor, source: Volume, adversarial: np.ndarray, path: Path | None) -> np.ndarray:
    """Write the adversarial volume (to `path`, or to a file that is removed again), read it back, segment it.

    The ordinary predictor does it, which finds its own crop and statistics. Returns class indices (i, j, k).
    """
    stored = as_stored(adversarial, source.array)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "adversarial.nii" if path is None else path
        write_image(target, stored, source.affine)
        return predictor.segment(read_image([target]))
