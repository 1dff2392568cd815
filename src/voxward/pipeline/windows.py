"""Overlapping windows: how they blend, a sweep that holds only a slab of the logits, and its pullback.

The result is linear in the windows' logits, and the shares that windows have in a voxel sum to one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Head
from voxward.core.recipe import Inference
from voxward.core.registry import Registry, unknown_name
from voxward.core.types import CaseLogits, Image, Images, Logits, Size3
from voxward.data.padding import Padded
from voxward.pipeline.placement import PLACEMENTS

T = TypeVar("T")
Forward = Callable[[Images], Logits]
Pull = Callable[[Images, Logits], Images]
Place = tuple[slice, ...]

# Logits (all classes of some rows) that a slab holds, unless one row alone has more: 4 MiB in float32.
_SLAB = 2**20
# A layer of so much the voxels of the smallest one may be swept for the sake of its place in memory.
_HARDLY_MORE = 1.3


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


def check_inference(inference: Inference) -> None:
    """Refuse inference settings whose names are unknown or do not fit each other.

    Args:
        inference: The recipe's part on inference.

    Raises:
        UserError: The weights or the placement are unknown; the message lists the legal names. Or windows vote, but
            with weights that are not constant, so that a vote would not count as one.
    """
    for key, name, known in (
        ("weights", inference.weights, WEIGHTS),
        ("placement", inference.placement, PLACEMENTS),
    ):
        if name not in known:
            raise UserError(f"inference.{key}: {unknown_name(known.family, name, known)}")
    if inference.combine == "vote" and WEIGHTS[inference.weights] is not _constant:
        raise UserError(f"inference: combine 'vote' needs weights 'constant', got {inference.weights!r}")


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows that cover a volume.

    Attributes:
        shape: The volume's shape (d, h, w).
        size: The window's shape in voxels.
        starts: The first voxels of the windows along each axis, in ascending order. A start that is repeated means
            windows that are computed and counted twice.
        weights: The blending weights of a window's voxels, of shape `size`, positive everywhere.
        axis: The spatial axis (0, 1, 2) that a sweep runs along.
    """

    shape: Size3
    size: Size3
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    weights: Tensor
    axis: int
    _placed: dict[tuple[torch.device, torch.dtype], Tensor] = field(default_factory=dict, init=False, repr=False)

    def weights_like(self, x: Tensor) -> Tensor:
        """Return the blending weights on the device and in the number type of a tensor; do not write into them.

        Args:
            x: The tensor. The weights stay on its device for the next call.
        """
        place = x.device, x.dtype
        if place not in self._placed:
            with torch.inference_mode(False):  # a tensor of that mode cannot be used outside it
                self._placed[place] = self.weights.to(*place)
        return self._placed[place]

    @property
    def count(self) -> int:
        """Return the number of windows."""
        return len(self.starts[0]) * len(self.starts[1]) * len(self.starts[2])

    @property
    def corners(self) -> list[Size3]:
        """Return the first voxel (d, h, w) of every window."""
        return list(product(*self.starts))

    @property
    def layer_shape(self) -> Size3:
        """Return the shape that a sweep holds at once: the window's along `axis`, the volume's along the others."""
        return _with(self.shape, self.axis, self.size[self.axis])


def plan_windows(
    shape: Size3, size: Size3, overlap: float, weights: str, placement: str = "step", extra: int = 6
) -> Windows:
    """Return the windows that cover a volume.

    They are swept along the first axis on which a layer of windows holds hardly more voxels than on the best axis: the
    earlier the axis, the longer the runs of memory that a slab is made of.

    Args:
        shape: The volume's shape, on every axis at least as long as the window.
        size: The window's shape in voxels.
        overlap: The share of a window, in [0, 1), that neighbours have in common; only the placement `step` uses it.
        weights: How overlapping windows blend, a name of WEIGHTS.
        placement: How windows are placed along an axis, a name of PLACEMENTS.
        extra: How many windows are added per axis (n of the ResDSN paper); the placement `step` does not use it.

    Raises:
        UserError: The weights or the placement are unknown, a window does not fit, or `extra` is below 1 where it is
            used.
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
    forward: Forward,
    image: Image | Padded,
    windows: Windows,
    batch: int = 1,
    done: Callable[[int], None] | None = None,
) -> Iterator[Tensor]:
    """Predict all windows of an image, and yield the blended logits in slabs.

    Rows are given out as soon as no later window touches them, so memory holds one buffer of k x `layer_shape` and one
    slab, whatever the volume's length. Differentiable: autograd follows the writes into the buffer.

    Args:
        forward: From windows (n, c, *size) to logits (n, k, *size).
        image: The prepared and padded image (c, d, h, w), or what pads it row by row.
        windows: The windows that cover the image.
        batch: How many windows one forward pass takes.
        done: A function that is told how many windows are finished.

    Yields:
        Logits (k, d, h, w) that follow each other along `windows.axis` and together cover the image.
    """
    axis, starts = windows.axis, windows.starts[windows.axis]
    like = image.x if isinstance(image, Padded) else image
    weights = windows.weights_like(like)
    total: Tensor | None = None
    for n, start in enumerate(starts):
        if total is not None:
            _shift(total, start - starts[n - 1], axis + 1)
        for place, logits in _layer(forward, _rows(image, windows, start), windows, batch):
            if total is None:
                total = like.new_zeros((len(logits), *windows.layer_shape))
            total[(slice(None), *place)].addcmul_(logits, weights)
            del logits
        assert total is not None
        until = starts[n + 1] if n + 1 < len(starts) else start + windows.size[axis]
        yield from _slabs(total, windows, weights, range(start, until))
        if done is not None:
            done((n + 1) * windows.count // len(starts))


def voting(forward: Forward, head: Head = "softmax") -> Forward:
    """Return a forward pass in which every window has one vote per voxel instead of logits.

    A sweep of it yields the share of the votes that every class gets. With constant weights its argmax is the majority;
    of classes with equal shares, the lower one wins. A vote has no gradient.

    Args:
        forward: From windows to logits (n, k, d, h, w).
        head: `softmax` votes 1 for the class with the largest logit and 0 for the others; `regions` votes 1 for or -1
            against each region.

    Returns:
        From windows to votes (n, k, d, h, w).
    """

    def votes(images: Images) -> Logits:
        logits = forward(images)
        if head == "regions":
            return torch.where(logits > 0, torch.ones_like(logits), -torch.ones_like(logits))
        return torch.zeros_like(logits).scatter_(1, logits.max(1, keepdim=True).indices, 1.0)

    return votes


def gather(x: Tensor, corners: Sequence[Size3], size: Size3) -> Tensor:
    """Cut windows out of a tensor.

    Args:
        x: A tensor (..., d, h, w).
        corners: The first voxel of each window.
        size: The windows' shape in voxels.

    Returns:
        The windows (n, ..., *size). A single window is a view of `x`.
    """
    lead = (slice(None),) * (x.ndim - 3)
    parts = [x[lead + _box(corner, size)] for corner in corners]
    return parts[0][None] if len(parts) == 1 else torch.stack(parts)


def scatter_add(x: Tensor, corners: Sequence[Size3], parts: Tensor) -> None:
    """Add values to the windows of a tensor, in place; the transpose of `gather`.

    Args:
        x: A tensor (..., d, h, w), which is changed.
        corners: The first voxel of each window.
        parts: What is added to each window (n, ..., *size).
    """
    lead = (slice(None),) * (x.ndim - 3)
    for corner, part in zip(corners, parts, strict=True):
        x[lead + _box(corner, _size(part))] += part


def chunked(corners: Sequence[Size3], batch: int) -> Iterator[Sequence[Size3]]:
    """Return corners of windows in groups of at most `batch`, in the same order."""
    return (corners[first : first + batch] for first in range(0, len(corners), batch))


def touched(windows: Windows, changed: Bool[Tensor, "d h w"]) -> list[Size3]:
    """Return the corners of the windows that hold a changed voxel.

    Args:
        windows: The windows that cover a volume.
        changed: Which voxels of the volume changed (d, h, w).
    """
    found = torch.stack([changed[_box(corner, windows.size)].any() for corner in windows.corners]).tolist()
    return [corner for corner, yes in zip(windows.corners, found, strict=True) if yes]


def pull_back(pull: Pull, image: Image, windows: Windows, cotangent: CaseLogits, batch: int = 1) -> Image:
    """Turn a gradient for the blended logits of `sweep` into a gradient for its image.

    No graph outlives a call of `pull`, so memory does not grow with the number of windows.

    Args:
        pull: From windows (n, c, *size) and a gradient for their logits (n, k, *size) to a gradient for the windows.
        image: The image (c, d, h, w) of the sweep.
        windows: The windows of the sweep.
        cotangent: A gradient for the blended logits (k, d, h, w).
        batch: How many windows `pull` takes at once.

    Returns:
        The gradient for the image (c, d, h, w).
    """
    weights, share = windows.weights_like(image), cotangent / _norm(windows, image)
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
    """Return the blended logits of an image that changed inside some windows only.

    Args:
        forward: From windows (n, c, *size) to logits (n, k, *size).
        blended: The blended logits (k, d, h, w) before the change.
        images: The image (c, d, h, w) before and after the change.
        windows: The windows that cover the image.
        corners: The corners of all windows that hold a changed voxel, see `touched`.
        batch: How many windows one forward pass takes.

    Returns:
        The blended logits (k, d, h, w) after the change.
    """
    weights, norm = windows.weights_like(blended), _norm(windows, blended)
    result = blended.clone()
    for chunk in chunked(corners, batch):
        before, after = (forward(gather(image, chunk, windows.size)) for image in images)
        share = weights / gather(norm, chunk, windows.size)
        scatter_add(result, chunk, (after - before) * share[:, None])
    return result


def _norm(windows: Windows, like: Tensor) -> Tensor:
    """The sum of the weights in every voxel (d, h, w)."""
    weights, norm = windows.weights_like(like), like.new_zeros(windows.shape)
    for corner in windows.corners:
        norm[_box(corner, windows.size)] += weights
    return norm


def _rows(image: Image | Padded, windows: Windows, start: int) -> Tensor:
    """The rows of an image that the windows which begin at one row of the swept axis lie in."""
    axis, length = windows.axis, windows.size[windows.axis]
    return image.rows(axis, start, length) if isinstance(image, Padded) else image.narrow(axis + 1, start, length)


def _layer(forward: Forward, rows: Tensor, windows: Windows, batch: int) -> Iterator[tuple[Place, Tensor]]:
    """All windows that begin at one row of the swept axis: the place in the buffer and the logits (k, *size)."""
    corners = list(product(*(_with(windows.starts, windows.axis, (0,)))))
    for first in range(0, len(corners), batch):
        chunk = corners[first : first + batch]
        for corner, logits in zip(chunk, forward(gather(rows, chunk, windows.size)).to(rows.dtype), strict=True):
            yield _box(corner, windows.size), logits
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
    starts = windows.starts[axis]
    for start in starts[bisect_right(starts, rows.start - length) : bisect_left(starts, rows.stop)]:
        first, last = max(start, rows.start), min(start + length, rows.stop)
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
