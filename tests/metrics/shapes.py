"""Masks whose surface Dice is known."""

from __future__ import annotations

import numpy as np


def ellipsoid(shape: tuple[int, ...], centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    grid = np.meshgrid(*(np.arange(length) for length in shape), indexing="ij")
    inside: np.ndarray = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1
    return inside


def flat_pair() -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Two flat ellipsoids of 64 x 48 x 30 mm, one slice apart: truth, prediction and voxel size."""
    shape, radii = (120, 120, 20), np.array([40.0, 30.0, 3.0])
    centre = np.array(shape) / 2
    return (
        ellipsoid(shape, centre, radii),
        ellipsoid(shape, centre + np.array([0, 0, 1]), radii * 1.05),
        (0.8, 0.8, 5.0),
    )
