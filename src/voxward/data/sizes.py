"""Whether a volume's prepared shape can be meant: a wrong voxel size makes it absurdly large or small."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.types import Size3

MOST_VOXELS = 2**31
"""A prepared volume of more voxels (all channels) is refused."""
FEWEST = 4
"""A prepared axis of fewer voxels, of one that had this many times as many, deserves a warning."""

# Bytes of a prepared voxel: float32.
_BYTES = 4
_LIMIT_FILE = Path("/sys/fs/cgroup/memory.max")


def check_prepared_shape(
    id: str, source: Size3, shape: Size3, channels: int, spacings: Sequence[Sequence[float]]
) -> None:
    """Refuse a prepared shape that cannot be held, before memory is taken, and warn of one that loses nearly all.

    Args:
        id: The id of the case.
        source: The shape of the crop box in voxels of the file, in RAS order.
        shape: The shape that it would be resampled to.
        channels: The number of channels.
        spacings: The voxel size in mm of the file and of the plan, both in RAS order.

    Raises:
        UserError: The prepared volume has more than MOST_VOXELS voxels, or more than the machine's memory can hold.
    """
    voxels = channels * shape[0] * shape[1] * shape[2]
    sizes = "voxels of {} mm would become voxels of {} mm".format(*(_shown(spacing) for spacing in spacings))
    if voxels > channels * source[0] * source[1] * source[2] and voxels * _BYTES > min(
        memory_bytes(), MOST_VOXELS * _BYTES
    ):
        raise UserError(
            f"case {id!r}: {source} voxels would become {shape}, more than can be held: {sizes}. Is the voxel size in "
            "its header right?"
        )
    if any(old >= FEWEST * FEWEST and new < FEWEST for old, new in zip(source, shape, strict=True)):
        warnings.warn(
            f"case {id!r}: of {source} voxels only {shape} are left: {sizes}. Is the voxel size in its header right?",
            stacklevel=2,
        )


def memory_bytes() -> int:
    """Return how much memory this process may have: the machine's, or what its control group allows."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    if _LIMIT_FILE.is_file() and (text := _LIMIT_FILE.read_text().strip()).isdigit():
        limits.append(int(text))
    return min(limits, default=MOST_VOXELS * _BYTES)


def _shown(spacing: Sequence[float]) -> str:
    x, y, z = (f"{float(f'{length:.3g}'):g}" for length in spacing)
    return f"{x} x {y} x {z}"
