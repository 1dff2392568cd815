"""The steps of preprocessing that cut and pad, without resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.types import Image, Size3
from voxward.systems.bundle.steps import NewImage, Placed, Undo

PADDINGS = {
    "constant": "constant", "edge": "replicate", "replicate": "replicate", "reflect": "reflect", "wrap": "circular",
    "circular": "circular",
}  # fmt: skip


@dataclass(frozen=True)
class Boxed:
    """A box of the old grid, which may reach beyond it.

    Attributes:
        start: The first voxel of the box.
        stop: The voxel after the last one.
        shape: The shape of the old grid.
        mode: How PyTorch's pad fills what lies beyond.
        value: The value, for the mode `constant`.
    """

    start: Size3
    stop: Size3
    shape: Size3
    mode: str = "constant"
    value: float = 0.0

    def apply(self, x: Image) -> NewImage:
        """Cut an image, and pad it."""
        return padded(x[(slice(None), *self._held)], self._missing, self.mode, self.value)

    def undo(self, x: Shaped[Tensor, "k d h w"], how: Undo, fill: float) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Cut the padding off, and fill what was cut away."""
        around = [(part.start, length - part.stop) for part, length in zip(self._held, self.shape, strict=True)]
        inner = [slice(low, x.shape[axis + 1] - high) for axis, (low, high) in enumerate(self._missing)]
        return padded(x[(slice(None), *inner)], around, "constant", fill)

    def truth(self, x: Shaped[Tensor, "k d h w"]) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Cut class indices, background around them."""
        return padded(x[(slice(None), *self._held)], self._missing, "constant", 0.0)

    @property
    def _held(self) -> list[slice]:
        edges = zip(self.start, self.stop, self.shape, strict=True)
        return [slice(max(start, 0), min(stop, length)) for start, stop, length in edges]

    @property
    def _missing(self) -> list[tuple[int, int]]:
        edges = zip(self.start, self.stop, self.shape, strict=True)
        return [(max(-start, 0), max(stop - length, 0)) for start, stop, length in edges]


@dataclass(frozen=True)
class Padding:
    """Pads to a size, or to multiples of one.

    Attributes:
        sizes: The size per axis, a single one for all; 0 or less keeps that of the image.
        multiple: Whether the image is padded to a multiple of it.
        centred: Whether half of the padding goes before the image (the odd voxel behind); otherwise all goes behind.
        mode: How PyTorch's pad fills it.
        value: The value, for the mode `constant`.
    """

    sizes: tuple[int, ...]
    multiple: bool
    centred: bool = True
    mode: str = "constant"
    value: float = 0.0
    moves = True

    def place(self, x: Image, affine: np.ndarray, hold: bool) -> tuple[Placed, np.ndarray]:
        """Bind the step to an image; see Step."""
        shape = size3(x.shape[1:])
        wanted = [self._length(size, length) for size, length in zip(per_axis(self.sizes), shape, strict=True)]
        missing = [size - length for size, length in zip(wanted, shape, strict=True)]
        i, j, k = (-(amount // 2) if self.centred else 0 for amount in missing)
        start = np.asarray((i, j, k))
        box = Boxed((i, j, k), size3(start + wanted), shape, self.mode, self.value)
        return box, moved_affine(affine, start)

    def _length(self, size: int, length: int) -> int:
        if size <= 0:
            return length
        return -(-length // size) * size if self.multiple else max(size, length)


@dataclass(frozen=True)
class CropForeground:
    """Cuts to the smallest box of the voxels above 0.

    Attributes:
        channels: The channels that are looked at; None for all.
        margin: Voxels that are left around the box, per axis.
        inside: Whether the box stays inside the image.
        multiple: What the box's size is a multiple of, per axis.
        mode: How what lies beyond the image is filled; None where that is not known here.
        value: The value, for the mode `constant`.
    """

    channels: tuple[int, ...] | None = None
    margin: tuple[int, ...] = (0,)
    inside: bool = False
    multiple: tuple[int, ...] = (1,)
    mode: str | None = "constant"
    value: float = 0.0
    moves = True

    def place(self, x: Image, affine: np.ndarray, hold: bool) -> tuple[Placed, np.ndarray]:
        """Bind the step to an image; see Step."""
        with torch.no_grad():
            found = ((x if self.channels is None else x[list(self.channels)]) > 0).any(0)
        shape, start, stop = size3(x.shape[1:]), [], []
        for axis, (margin, multiple) in enumerate(zip(per_axis(self.margin), per_axis(self.multiple), strict=True)):
            held = torch.nonzero(found.any([other for other in range(3) if other != axis])).flatten()
            if not len(held):
                raise UserError("no voxel is above 0 where the bundle crops to those that are (CropForegroundd)")
            low, high = int(held[0]) - margin, int(held[-1]) + margin + 1
            if self.inside:
                low, high = max(low, 0), min(high, shape[axis])
            length = -(-(high - low) // multiple) * multiple if multiple > 0 else high - low
            start.append(low - (length - (high - low)) // 2)
            stop.append(start[-1] + length)
        beyond = any(low < 0 for low in start) or any(high > n for high, n in zip(stop, shape, strict=True))
        if beyond and self.mode is None:
            raise UserError("the box that the bundle crops to reaches beyond the volume, and its padding is not known")
        box = Boxed(size3(start), size3(stop), shape, self.mode or "constant", self.value)
        return box, moved_affine(affine, np.asarray(start))


def padded(x: Tensor, pairs: Sequence[tuple[int, int]], mode: str, value: float) -> Tensor:
    """Pad the last three axes. Differentiable.

    Args:
        x: A tensor (k, d, h, w).
        pairs: For each axis, the voxels before and behind.
        mode: The mode of PyTorch's pad.
        value: The value, for the mode `constant`.

    Raises:
        UserError: The mode cannot pad so far.
    """
    flat = [amount for pair in reversed(pairs) for amount in pair]
    if not any(flat):
        return x
    if mode == "constant":
        return F.pad(x, flat, value=value)
    try:
        return F.pad(x[None], flat, mode=mode)[0]
    except RuntimeError as error:
        raise UserError(f"a volume of {tuple(x.shape[1:])} cannot be padded by {flat} in the mode {mode}") from error


def per_axis(values: tuple[int, ...]) -> Size3:
    """Return one value per axis, where there may be a single one for all."""
    i, j, k = values if len(values) == 3 else values * 3
    return i, j, k


def moved_affine(affine: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the affine of a box that begins at a voxel."""
    shift = np.eye(4)
    shift[:3, 3] = start
    return np.asarray(affine @ shift)


def size3(values: Sequence[int] | np.ndarray) -> Size3:
    """Return three whole numbers."""
    i, j, k = (int(value) for value in values)
    return i, j, k
