"""Noise for randomised smoothing, which depends on its seed, its case and its number only, and not on who draws it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxward.core.errors import UserError


@dataclass(frozen=True, eq=False)
class Frame:
    """What a change of a volume is measured in, and where there is none. It is that of the clean volume.

    Attributes:
        low: Per channel the low end of the intensity window.
        width: Per channel the width of the intensity window.
        held: Voxels that no change touches, booleans (c, i, j, k): those that are exactly 0 in channels in which the
            threat model keeps them.

    Raises:
        UserError: The numbers do not fit each other.
    """

    low: tuple[float, ...]
    width: tuple[float, ...]
    held: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.low) == len(self.width) == len(self.held):
            raise UserError(f"low, width and held must have one entry per channel, got {self.low} and {self.width}")
        if not all(width > 0 for width in self.width):
            raise UserError(f"the width of an intensity window must be above 0, got {self.width}")

    @property
    def free(self) -> int:
        """The number of voxels, of all channels together, that may change."""
        return int(np.count_nonzero(~self.held))


def stream(*key: str | int | float) -> np.random.Generator:
    """Return a source of random numbers that follows from a key.

    Args:
        *key: What the numbers belong to, such as seed, case, kind of noise and number of the sample.

    Example:
        >>> voxward.certificates.stream(0, "hippocampus_033", "voxels", 17).standard_normal()
    """
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def noisy(volume: np.ndarray, sigma: float, frame: Frame, source: np.random.Generator) -> np.ndarray:
    """Return a volume with Gaussian noise in every voxel that may change.

    The noise is drawn and added in float64. Nothing is clipped or rounded: what a system does with such a volume is a
    part of the system that is certified.

    Args:
        volume: Intensities (c, i, j, k).
        sigma: The standard deviation, as a share of each channel's intensity window.
        frame: The windows, and the voxels that get no noise.
        source: The source of the noise.

    Returns:
        The noisy volume, float64 (c, i, j, k).
    """
    # Drawn for all voxels, so that the noise of a voxel does not depend on which others are held.
    drawn = source.standard_normal(volume.shape)
    drawn *= per_channel([sigma * width for width in frame.width])
    drawn[frame.held] = 0.0
    drawn += volume
    return drawn


def per_channel(values: Sequence[float]) -> np.ndarray:
    """Return one number per channel in a shape (c, 1, 1, 1) that fits volumes."""
    return np.asarray(values, np.float64).reshape(-1, 1, 1, 1)
