"""A field of view that is too small for the patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from voxward.corruptions.corruption import Levels, Parameters
from voxward.corruptions.scan import Scan


def draw_truncation(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Return by how many percent the field is narrower along both axes of a slice; nothing is drawn."""
    return {"percent": float(levels["percent"]), "axes": list(scan.in_plane)}


def truncation(scan: Scan, parameters: Parameters) -> Scan:
    """Leave nothing but the lowest intensity outside of a narrower field of view."""
    inside = np.ones(scan.shape, bool)
    for axis in parameters["axes"]:
        n = scan.shape[axis]
        middles = np.abs((np.arange(n) + 0.5) / n * 2 - 1)
        shape = [n if other == axis else 1 for other in range(3)]
        inside &= (middles <= 1 - parameters["percent"] / 100).reshape(shape)
    low = scan.image.min((1, 2, 3), keepdims=True)
    return replace(scan, image=np.where(inside[None], scan.image, low).astype(scan.image.dtype))
