"""Placements of windows along an axis, one function each, and the table of their names in recipes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from voxward.core.errors import UserError
from voxward.core.registry import Registry


def window_starts(length: int, window: int, overlap: float) -> tuple[int, ...]:
    """Return evenly spread starts of windows that cover an axis.

    Args:
        length: The axis's length in voxels.
        window: The window's length in voxels.
        overlap: The share of a window, in [0, 1), that neighbouring windows have in common at least.

    Returns:
        The first voxel of every window, in ascending order.

    Raises:
        UserError: The window is longer than the axis, which must be padded first.
    """
    if window > length:
        raise UserError(f"a window of {window} does not fit into {length}: pad the volume first")
    step = max(1, int(window * (1.0 - overlap)))
    count = -(-(length - window) // step) + 1
    return tuple(int(start) for start in np.unique(np.round(np.linspace(0, length - window, count)).astype(int)))


def _step(length: int, window: int, overlap: float, extra: int) -> tuple[int, ...]:
    """Evenly spread windows, neighbours sharing at least `overlap` of a window."""
    return window_starts(length, window, overlap)


def _by_count(length: int, window: int, overlap: float, extra: int) -> tuple[int, ...]:
    """As many evenly spread windows as the paper's formula says, or one at every voxel where there are fewer places."""
    count = _formula_count(length, window, extra)
    return tuple(int(start) for start in np.unique(np.round(np.linspace(0, length - window, count)).astype(int)))


def _heartseg(length: int, window: int, overlap: float, extra: int) -> tuple[int, ...]:
    """The released rule: a whole step as if `count` windows were made, and one more at the end.

    Where the step divides the room, the last start is there twice, so that those windows count double.
    """
    room = length - window
    step = max(1, -(-room // (_formula_count(length, window, extra) - 1)))
    return (*range(0, room + 1, step), room)


def _formula_count(length: int, window: int, extra: int) -> int:
    """floor(length / window) + extra, at least 2. Raises ValueError unless the window fits and `extra` is positive."""
    if window > length:
        raise UserError(f"a window of {window} does not fit into {length}: pad the volume first")
    if extra < 1:
        raise UserError(f"extra must be at least 1, or the windows would not cover the volume, got {extra}")
    return length // window + extra


# How an axis is covered: (length, window, overlap, extra) -> starts in ascending order.
#   step      neighbours share at least `overlap` of a window; `extra` is not used
#   count     floor(length / window) + extra windows (Zhu et al., A 3D Coarse-to-Fine Framework, section 4.1.1);
#             `overlap` is not used, nor in the next one
#   heartseg  what the authors' ancestor program HeartSeg made of that formula, repeated windows included
PLACEMENTS: Registry[Callable[[int, int, float, int], tuple[int, ...]]] = Registry(
    "window placement", {"step": _step, "count": _by_count, "heartseg": _heartseg}
)
