"""Overlapping windows: where they lie, how they blend, and a sweep that holds only a slab of the volume's logits.

Everything here is linear in the windows' logits, and the blending weights sum to one in every voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from voxward.core.registry import Registry
from voxward.core.types import Image, Images, Logits, Size3

Forward = Callable[[Images], Logits]


def window_starts(length: int, window: int, overlap: float) -> tuple[int, ...]:
    """Evenly spread starts of windows that cover `length`, neighbours sharing at least the share `overlap`.

    Raises ValueError when the window is longer than the axis: pad first.
    """
    if window > length:
        raise ValueError(f"a window of {window} does not fit into {length}: pad the volume first")
    step = max(1, int(window * (1.0 - overlap)))
    count = -(-(length - window) // step) + 1
    return tuple(int(start) for start in np.unique(np.round(np.linspace(0, length - window, count)).astype(int)))


def _distance(window: Size3) -> list[Tensor]:
    """Per axis, the distance from the window's centre in half windows: 0 in the middle, below 1 at the rim."""
    return [(torch.arange(n, dtype=torch.float32) - (n - 1) / 2).abs() / (n / 2) for n in window]


def _inverse_distance(window: Size3) -> Tensor:
    d, h, w = _distance(window)
    radius = (d[:, None, None] ** 2 + h[:, None] ** 2 + w**2).sqrt()
    return 1.0 / (1.0 + radius)


def _gaussian(window: Size3) -> Tensor:
    """Standard deviation an eighth of the window, as nnU-Net has it; never below a thousandth, so it cannot vanish."""
    d, h, w = (torch.exp(-0.5 * (axis * 4.0) ** 2) for axis in _distance(window))
    weights = d[:, None, None] * h[:, None] * w
    return (weights / weights.max()).clamp_min(1e-3)


def _constant(window: Size3) -> Tensor:
    return torch.ones(window)


WEIGHTS: Registry[Callable[[Size3], Tensor]] = Registry(
    "blending weights", {"inverse-distance": _inverse_distance, "gaussian": _gaussian, "constant": _constant}
)


@dataclass(frozen=True, eq=False)
class Windows:
    """A volume's windows: `starts` per axis, the window's size, and `weights` (d, h, w), positive everywhere."""

    shape: Size3
    size: Size3
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    weights: Tensor

    @property
    def count(self) -> int:
        """How many windows there are."""
        return len(self.starts[0]) * len(self.starts[1]) * len(self.starts[2])


def plan_windows(shape: Size3, size: Size3, overlap: float, weights: str) -> Windows:
    """Windows of `size` that cover a volume of `shape` (at least as large as the window on every axis)."""
    i, j, k = (window_starts(length, window, overlap) for length, window in zip(shape, size, strict=True))
    return Windows(shape, size, (i, j, k), WEIGHTS[weights](size))


def sweep(
    forward: Forward, image: Image, windows: Windows, batch: int = 1, done: Callable[[int], None] | None = None
) -> Iterator[Tensor]:
    """Yield the blended logits of `image` (c, d, h, w) as consecutive slabs (k, rows, h, w) along the first axis.

    A slab is given out as soon as no later window touches it, so memory holds the rows of one window, whatever the
    volume's length. `forward` maps windows (n, c, *size) to logits (n, k, *size). `done` hears how many windows of
    the volume are finished.
    """
    rows = windows.size[0]
    norm_rows: Tensor | None = None
    total: Tensor | None = None
    finished = 0
    starts = windows.starts[0]
    for n, start in enumerate(starts):
        layer_total, layer_norm = _layer(forward, image, windows, start, batch)
        if total is None or norm_rows is None:
            total, norm_rows = layer_total, layer_norm
        else:
            shift = start - starts[n - 1]
            total = _shifted(total, shift, 1) + layer_total
            norm_rows = _shifted(norm_rows, shift, 0) + layer_norm
        until = starts[n + 1] if n + 1 < len(starts) else start + rows
        yield total[:, : until - start] / norm_rows[: until - start]
        finished += len(windows.starts[1]) * len(windows.starts[2])
        if done is not None:
            done(finished)


def _layer(forward: Forward, image: Image, windows: Windows, start: int, batch: int) -> tuple[Tensor, Tensor]:
    """Weighted logits (k, rows, h, w) and weights (rows, h, w) of all windows that begin at one row."""
    rows, height, width = windows.size
    weights = windows.weights.to(image.device)
    total: Tensor | None = None
    norm = image.new_zeros((rows, *windows.shape[1:]))
    places = list(product(*windows.starts[1:]))
    for first in range(0, len(places), batch):
        chunk = places[first : first + batch]
        crops = torch.stack([image[:, start : start + rows, j : j + height, k : k + width] for j, k in chunk])
        logits = forward(crops).to(image.dtype)
        if total is None:
            total = image.new_zeros((logits.shape[1], rows, *windows.shape[1:]))
        for (j, k), window in zip(chunk, logits, strict=True):
            total[:, :, j : j + height, k : k + width] += window * weights
            norm[:, j : j + height, k : k + width] += weights
    assert total is not None
    return total, norm


def _shifted(x: Tensor, rows: int, axis: int) -> Tensor:
    """Drop the first rows and append as many zeros."""
    kept = x.narrow(axis, rows, x.shape[axis] - rows)
    empty = list(x.shape)
    empty[axis] = rows
    return torch.cat([kept, x.new_zeros(empty)], axis)
