"""What was done to a scan by a corruption, as its record says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voxward.core.types import Float3


@dataclass(frozen=True)
class Corrupted:
    """A corruption of a scan; with the scan it can be made again.

    Attributes:
        set: The name of the set.
        version: The version of the set.
        severity: 0 to 5.
        parameters: What was drawn: one entry for all channels of what is spatial, else one for each channel, which is
            empty where the channel was not changed.
        spatial: Whether it moved the voxels of image and label.
        length_scale: By what lengths along each axis of the file were multiplied, because the scan is small.
        changed: The share of the file's voxels that have another value.
        clipped: The share of voxels beyond what the file's number type can hold, which were cut off.
        left: Of each class, its voxels after a move as a share of those before; None where there were none.
    """

    set: str
    version: int
    severity: int
    parameters: tuple[Mapping[str, Any], ...]
    spatial: bool
    length_scale: Float3
    changed: float
    clipped: float
    left: tuple[float | None, ...] = ()
