"""Overlapping windows: where they lie, how they blend, a sweep that holds only a slab of the logits, and its pullback.

Everything here is linear in the windows' logits, and the blending weights sum to one in every voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Head
from voxward.core.registry import Registry
from voxward.core.types import CaseLogits, Image, Images, Logits, Size3

T = TypeVar("T")
Forward = Callable[[Images], Logits]
Pull = Callable[[Images, Logits], Images]
Place = tuple[slice, ...]

# Logits (all classes of some rows) that a slab holds, unless one row alone has more: 4 MiB in float32.
_SLAB = 2**20
# A layer of so much the voxels of the smallest one may be swept for the sake of its place in memory.
_HARDLY_MORE = 1.3


def window_starts(length: int, window: int, overlap: float) -> tuple[int, ...]:
    """Evenly spread starts of windows that cover `length`, neighbours sharing at least the share `overlap`.

    Raises ValueError when the window is longer than the axis: pad first.
    """
    if window > length:
        raise UserError(f"a window of {window} does not fit into {length}: pad the volume first")
    step = max(1, int(window * (1.0 - overlap)))
    count = -(-(length - window) // step) + 1
    return tuple(int(start) for start in np.unique(np.round(np.linspace(0, length - window, count)).astype(int)))


def _step(length: int, window: int, overlap: float, extra: int) -> tuple[int, ...]:
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
    return weights.div_(weights.max()).clamp_min_(1e-3)  # in place: windows may be large


def _constant(window: Size3) -> Tensor:
    return torch.ones(window)


WEIGHTS: Registry[Callable[[Size3], Tensor]] = Registry(
    "blending weights", {"inverse-distance": _inverse_distance, "gaussian": _gaussian, "constant": _constant}
)


@dataclass(frozen=True, eq=False)
class Windows:
    """A volume's windows: `starts` per axis, the window's size, and `weights` (d, h, w), positive everywhere.

    Starts ascend; a repeated start means windows that are computed and counted twice.
    axis: the spatial axis (0, 1, 2) that a sweep runs along.
    """

    shape: Size3
    size: Size3
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    weights: Tensor
    axis: int

    @property
    def count(self) -> int:
        """How many windows there are."""
        return len(self.starts[0]) * len(self.starts[1]) * len(self.starts[2])

    @property
    def corners(self) -> list[Size3]:
        """Where the windows begin."""
        return list(product(*self.starts))

    @property
    def layer_shape(self) -> Size3:
        """What a sweep holds at once: the window's rows along `axis`, the whole volume along the others."""
        return _with(self.shape, self.axis, self.size[self.axis])


def plan_windows(
    shape: Size3, size: Size3, overlap: float, weights: str, placement: str = "step", extra: int = 6
) -> Windows:
    """Windows of `size` that cover a volume of `shape` (at least as large as the window on every axis).

    They are swept along the first axis on which a layer of them holds hardly more voxels than on the best: the earlier
    the axis, the longer the runs of memory that a slab is made of.
    `placement` names the rule of PLACEMENTS, which says what `overlap` and `extra` (n of the paper) mean.
    Raises ValueError for an unknown weighting or placement, a window that does not fit, or `extra` below 1.
    """
    place = PLACEMENTS[placement]
    i, j, k = (place(length, window, overlap, extra) for length, window in zip(shape, size, strict=True))
    layers = [int(np.prod(_with(shape, axis, size[axis]))) for axis in range(3)]
    axis = next(axis for axis in range(3) if layers[axis] <= _HARDLY_MORE * min(layers))
    return Windows(shape, size, (i, j, k), _weights(weights, size), axis)


@lru_cache(maxsize=4)
def _weights(name: str, size: Size3) -> Tensor:
    """Cached and shared: do not write into it."""
    return WEIGHTS[name](size)


def sweep(
    forward: Forward, image: Image, windows: Windows, batch: int = 1, done: Callable[[int], None] | None = None
) -> Iterator[Tensor]:
    """Yield the blended logits of `image` (c, d, h, w) as slabs (k, d, h, w), consecutive along `windows.axis`.

    Rows are given out as soon as no later window touches them, so memory holds one buffer of k x `layer_shape` and one
    slab, whatever the volume's length. `forward` maps windows (n, c, *size) to logits (n, k, *size). `done` hears how
    many windows of the volume are finished. Differentiable: autograd follows the writes into the buffer.
    """
    axis, starts = windows.axis, windows.starts[windows.axis]
    weights = windows.weights.to(image)
    total: Tensor | None = None
    for n, start in enumerate(starts):
        if total is not None:
            _shift(total, start - starts[n - 1], axis + 1)
        for place, logits in _layer(forward, image, windows, start, batch):
            if total is None:
                total = image.new_zeros((len(logits), *windows.layer_shape))
            total[(slice(None), *place)].addcmul_(logits, weights)
            del logits
        assert total is not None
        until = starts[n + 1] if n + 1 < len(starts) else start + windows.size[axis]
        yield from _slabs(total, windows, weights, range(start, until))
        if done is not None:
            done((n + 1) * windows.count // len(starts))


def voting(forward: Forward, head: Head = "softmax") -> Forward:
    """`forward` with its logits (n, k, d, h, w) replaced by one vote per voxel: 1 for the largest class, 0 for others.

    Of regions each has its own: 1 for, -1 against.

    A sweep of it yields every class's share of the votes, whose argmax is the majority: of the windows with constant
    weights, weighted otherwise; of equal shares the lower class. A vote has no gradient.
    """

    def votes(images: Images) -> Logits:
        logits = forward(images)
        if head == "regions":
            return torch.where(logits > 0, torch.ones_like(logits), -torch.ones_like(logits))
        return torch.zeros_like(logits).scatter_(1, logits.max(1, keepdim=True).indices, 1.0)

    return votes


def gather(x: Tensor, corners: Sequence[Size3], size: Size3) -> Tensor:
    """The windows of x (..., d, h, w) that begin at `corners`: (n, ..., *size); of a single one a view."""
    lead = (slice(None),) * (x.ndim - 3)
    parts = [x[lead + _box(corner, size)] for corner in corners]
    return parts[0][None] if len(parts) == 1 else torch.stack(parts)


def scatter_add(x: Tensor, corners: Sequence[Size3], parts: Tensor) -> None:
    """Add `parts` (n, ..., *size) to the windows of x (..., d, h, w) that begin at `corners`; gather's transpose."""
    lead = (slice(None),) * (x.ndim - 3)
    for corner, part in zip(corners, parts, strict=True):
        x[lead + _box(corner, _size(part))] += part


def chunked(corners: Sequence[Size3], batch: int) -> Iterator[Sequence[Size3]]:
    """`corners` in groups of at most `batch`."""
    return (corners[first : first + batch] for first in range(0, len(corners), batch))


def touched(windows: Windows, changed: Bool[Tensor, "d h w"]) -> list[Size3]:
    """The corners of the windows in which a voxel is `changed`."""
    found = torch.stack([changed[_box(corner, windows.size)].any() for corner in windows.corners]).tolist()
    return [corner for corner, yes in zip(windows.corners, found, strict=True) if yes]


def pull_back(pull: Pull, image: Image, windows: Windows, cotangent: CaseLogits, batch: int = 1) -> Image:
    """The pullback of `sweep`: from a gradient for the blended logits (k, d, h, w) to that for `image` (c, d, h, w).

    pull: the pullback of `sweep`'s forward, from windows (n, c, *size) and a gradient for their logits (n, k, *size)
    to that for the windows. No graph outlives a call of it, so memory does not grow with the number of windows.
    """
    weights, share = windows.weights.to(image), cotangent / _norm(windows, image)
    gradient = torch.zeros_like(image)
    for corners in chunked(windows.corners, batch):
        crops = gather(image, corners, windows.size)
        scatter_add(gradient, corners, pull(crops, gather(share, corners, windows.size) * weights))
    return gradient


def update(
    forward: Forward,
    blended: CaseLogits,
    images: tuple[Image, Image],
    windows: Windows,
    corners: Sequence[Size3],
    batch: int = 1,
) -> CaseLogits:
    """The blended logits after the image changed from images[0] to images[1] inside the windows at `corners` only."""
    weights, norm = windows.weights.to(blended), _norm(windows, blended)
    result = blended.clone()
    for chunk in chunked(corners, batch):
        before, after = (forward(gather(image, chunk, windows.size)) for image in images)
        share = weights / gather(norm, chunk, windows.size)
        scatter_add(result, chunk, (after - before) * share[:, None])
    return result


def _norm(windows: Windows, like: Tensor) -> Tensor:
    """The sum of the weights in every voxel (d, h, w)."""
    weights, norm = windows.weights.to(like), like.new_zeros(windows.shape)
    for corner in windows.corners:
        norm[_box(corner, windows.size)] += weights
    return norm


def _layer(forward: Forward, image: Image, windows: Windows, start: int, batch: int) -> Iterator[tuple[Place, Tensor]]:
    """All windows that begin at one row of the swept axis: the place in the buffer and the logits (k, *size)."""
    corners = list(product(*(_with(windows.starts, windows.axis, (start,)))))
    for first in range(0, len(corners), batch):
        chunk = corners[first : first + batch]
        for corner, logits in zip(chunk, forward(gather(image, chunk, windows.size)).to(image.dtype), strict=True):
            yield _box(_with(corner, windows.axis, 0), windows.size), logits
        del logits  # or they would live on while the next ones are made


def _slabs(total: Tensor, windows: Windows, weights: Tensor, rows: range) -> Iterator[Tensor]:
    """`rows` of the volume, the buffer's first ones, divided by their weights, in slabs of bounded size."""
    step = max(1, _SLAB * windows.size[windows.axis] // total.numel())
    for first in range(rows.start, rows.stop, step):
        part = range(first, min(first + step, rows.stop))
        norm = _norm_of(windows, weights, part)
        yield total.narrow(windows.axis + 1, first - rows.start, len(part)) / norm


def _norm_of(windows: Windows, weights: Tensor, rows: range) -> Tensor:
    """The sum of the weights in some rows along the swept axis, where all windows have been through."""
    axis, length = windows.axis, windows.size[windows.axis]
    norm = weights.new_zeros(_with(windows.shape, axis, len(rows)))
    for start in windows.starts[axis]:
        first, last = max(start, rows.start), min(start + length, rows.stop)
        if first < last:
            part = weights.narrow(axis, first - start, last - first)
            for corner in product(*_with(windows.starts, axis, (first - rows.start,))):
                norm[_box(corner, _size(part))] += part
    return norm


def _shift(x: Tensor, rows: int, axis: int) -> None:
    """Drop the first rows of `x` and append as many zeros; in place, block by block, so that nothing is held twice."""
    if not rows:  # a repeated window
        return
    kept = x.shape[axis] - rows
    for first in range(0, kept, rows):
        count = min(rows, kept - first)
        x.narrow(axis, first, count).copy_(x.narrow(axis, first + rows, count))
    x.narrow(axis, kept, rows).zero_()


def _box(corner: Size3, size: Size3) -> Place:
    return tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))


def _size(x: Tensor) -> Size3:
    d, h, w = x.shape[-3:]
    return d, h, w


def _with(values: tuple[T, T, T], axis: int, value: T) -> tuple[T, T, T]:
    """`values` with the one of `axis` replaced."""
    i, j, k = (value if n == axis else old for n, old in enumerate(values))
    return i, j, k
