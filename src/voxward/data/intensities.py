"""The intensities of a channel, measured over all voxels of a case and pooled over cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from voxward.core.plan import Intensities

FEW = 16
"""A channel with at most so many different intensities holds a mask or a map of labels, and no image."""

AIR, AIR_SHARE = (-1100.0, -900.0), 0.1
"""Air in CT lies between these, in HU; a channel with at least this share of such voxels looks like CT."""

# Voxels that are looked at before all are.
_GLANCE = 10_000


def measure_intensities(channel: Shaped[np.ndarray, "d h w"]) -> Intensities:
    """Measure all voxels of a channel.

    Args:
        channel: A channel (d, h, w), with at least one voxel.
    """
    least, greatest = float(channel.min()), float(channel.max())
    if not np.isfinite(least + greatest):  # refused elsewhere, with the number of such voxels
        finite = channel[np.isfinite(channel)]
        return Intensities(float(finite.min()), float(finite.max())) if finite.size else Intensities(0.0, 0.0)
    low, high = AIR
    air = 0
    if least <= high:
        air = sum(int(np.count_nonzero((plane >= low) & (plane <= high))) for plane in channel)
    return Intensities(least, greatest, _few_values(channel), air / channel.size)


def pooled(measured: Sequence[Intensities]) -> Intensities:
    """Pool the intensities of a channel over cases.

    Args:
        measured: The intensities of each case, at least one.
    """
    values = sorted({value for one in measured for value in one.values})
    few = all(one.values for one in measured) and len(values) <= FEW
    return Intensities(
        min(one.least for one in measured), max(one.greatest for one in measured), tuple(values) if few else (),
        sum(one.air for one in measured) / len(measured),
    )  # fmt: skip


def is_map(whole: Intensities | None) -> bool:
    """Return whether a channel holds a mask, or another map of few values.

    Args:
        whole: The intensities of all training cases; None where they are not known.
    """
    return whole is not None and len(whole.values) > 1


def _few_values(channel: Shaped[np.ndarray, "d h w"]) -> tuple[float, ...]:
    """All values, where they are few; most images show after a glance that they are not."""
    step = max(1, round((channel.size / _GLANCE) ** (1 / 3)))
    found = set(np.unique(channel[::step, ::step, ::step]).tolist())
    for plane in channel:
        if len(found) > FEW:
            return ()
        found.update(np.unique(plane).tolist())
    return tuple(sorted(map(float, found))) if len(found) <= FEW else ()
