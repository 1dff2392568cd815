"""Runs of a deployed system on noisy volumes of a case, which certificates are made of."""

from __future__ import annotations

from dataclasses import dataclass

Scores = tuple[float | None, ...]
"""The Dice of each class or region; None for an undefined one."""

VOXELS = "voxels"
"""The name of noise in every voxel; other noise has the name of the change whose parameters it is in."""


@dataclass(frozen=True)
class NoisyRuns:
    """What one unit of runs under noise found.

    Attributes:
        noise: `voxels`, or one of `certificates.CHANGES`, whose parameters are random.
        sigma: The standard deviation: in voxels a share of each channel's intensity window, else of each parameter.
        first: The number of the first run of the unit.
        dice: The Dice of each class in every run.
        counts: A digest of the counts per voxel and class, which lie in a file beside; empty where there are none.
        voxels: How many voxels, of all channels together, may change.
        channels: The number of channels.
        radius: Of an attack on the smoothed system its size in units of sigma; None for runs on the clean volume.
    """

    noise: str
    sigma: float
    first: int
    dice: tuple[Scores, ...]
    counts: str = ""
    voxels: int = 0
    channels: int = 1
    radius: float | None = None

    @property
    def samples(self) -> tuple[int, int]:
        """The number of the first run, and of the first one after them."""
        return self.first, self.first + len(self.dice)
