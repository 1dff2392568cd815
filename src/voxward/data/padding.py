"""The extension of a volume that is smaller than a patch: one rule for training, inference and attack.

Every rule is a table of source positions, so extending is a gather: linear in the volume and differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.plan import Padding
from voxward.core.types import Size3

OUTSIDE = -1


def pad_index(length: int, before: int, after: int, padding: Padding) -> np.ndarray:
    """Return the source position of every voxel of an axis that is extended or cropped.

    Args:
        length: The axis's length in voxels.
        before: How many voxels are added in front; a negative number crops.
        after: How many voxels are added at the end; a negative number crops.
        padding: `reflect` mirrors about the centre of the outermost voxel, over and over if more is added than the axis
            has (as np.pad does), and repeats an axis of length 1. `edge` repeats the outermost voxel. `zero` adds
            zeros.

    Returns:
        Positions (before + length + after), int64, in [0, length), or -1 where `zero` adds a zero.

    Raises:
        UserError: The axis is empty, more is removed than there is, or the padding is unknown.
    """
    if length < 1:
        raise UserError(f"length must be at least 1, got {length}: an empty axis cannot be extended")
    if before + length + after < 0:
        raise UserError(f"before={before} and after={after} remove more than the axis of length {length} has")
    if padding not in _RULES:
        raise UserError(f"padding must be one of {', '.join(_RULES)}, got {padding!r}")
    return _RULES[padding](np.arange(-before, length + after, dtype=np.int64), length)


def take(x: Shaped[Tensor, "... d h w"], index: Sequence[np.ndarray]) -> Shaped[Tensor, "... pd ph pw"]:
    """Gather positions of the last three axes. Differentiable; may return a view of `x`, or `x` itself.

    Args:
        x: A tensor (..., d, h, w).
        index: For each spatial axis the positions to take, from `pad_index`; -1 gives 0.

    Returns:
        The gathered voxels (..., pd, ph, pw).
    """
    runs = [_run(positions) for positions in index]
    if not any(run is None for run in runs):
        return _block(x, [run for run in runs if run is not None], [len(positions) for positions in index])
    for axis, positions in zip((-3, -2, -1), index, strict=True):
        if np.array_equal(positions, np.arange(x.shape[axis])):
            continue
        outside = positions == OUTSIDE
        x = x.index_select(axis, _placed(np.where(outside, 0, positions).tobytes(), x.device))
        if outside.any():
            shape = [-1 if place == axis else 1 for place in (-3, -2, -1)]
            x = x.masked_fill(torch.from_numpy(outside).to(x.device).view(shape), 0)
    return x


@lru_cache(maxsize=64)
def _placed(positions: bytes, device: torch.device) -> Tensor:
    """Positions (int64) on a device, which stay there for the next call: do not write into them."""
    with torch.inference_mode(False):  # a tensor of that mode cannot be used outside it
        return torch.frombuffer(bytearray(positions), dtype=torch.int64).to(device)


def _run(positions: np.ndarray) -> tuple[int, int, int] | None:
    """(place, first position, length) where the positions inside follow each other without a gap; else None."""
    inside = np.flatnonzero(positions != OUTSIDE)
    if not len(inside):
        return 0, 0, 0
    place, first, length = int(inside[0]), int(positions[inside[0]]), len(inside)
    follows = np.array_equal(positions[place : place + length], first + np.arange(length))
    return (place, first, length) if follows else None


def _block(x: Tensor, runs: Sequence[tuple[int, int, int]], lengths: Sequence[int]) -> Tensor:
    """One block of x, with zeros around it: a single copy, and none where nothing lies outside."""
    i, j, k = (slice(first, first + length) for _, first, length in runs)
    block = x[..., i, j, k]
    if list(block.shape[-3:]) == list(lengths):
        return x if block.shape == x.shape else block
    out = x.new_zeros((*x.shape[:-3], *lengths))
    i, j, k = (slice(place, place + length) for place, _, length in runs)
    out[..., i, j, k] = block
    return out


def pad_amounts(shape: Size3, size: Size3) -> tuple[Size3, Size3]:
    """Return how many voxels are added in front of and after each axis so that a shape reaches a size.

    The amounts are symmetric; an odd voxel comes at the end.

    Args:
        shape: The shape in voxels.
        size: The least shape wanted; axes that are longer stay as they are.
    """
    missing = [max(wanted - length, 0) for wanted, length in zip(size, shape, strict=True)]
    i, j, k = missing
    return (i // 2, j // 2, k // 2), (i - i // 2, j - j // 2, k - k // 2)


def pad_to(
    x: Shaped[Tensor, "... d h w"], size: Size3, padding: Padding
) -> tuple[Shaped[Tensor, "... pd ph pw"], Size3]:
    """Extend the last three axes of a tensor symmetrically to at least a size; longer axes stay as they are.

    Args:
        x: A tensor (..., d, h, w).
        size: The least shape of the last three axes.
        padding: The padding rule, see `pad_index`.

    Returns:
        The extended tensor (the same one if nothing is missing), and the voxels added in front of each axis, which
        `crop_back` needs.
    """
    i, j, k = x.shape[-3:]
    before, after = pad_amounts((i, j, k), size)
    index = [pad_index(*axis, padding) for axis in zip((i, j, k), before, after, strict=True)]
    return take(x, index), before


@dataclass(frozen=True, eq=False)
class Padded:
    """A tensor as `pad_to` extends it, of which only some rows are made at a time: one slice may be padded to many.

    Attributes:
        x: The tensor (..., d, h, w).
        index: For each of the last three axes the positions to take, from `pad_index`.
    """

    x: Tensor
    index: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def to(cls, x: Shaped[Tensor, "... d h w"], size: Size3, padding: Padding) -> tuple[Padded, Size3]:
        """Return what `pad_to` returns, without extending anything yet.

        Args:
            x: A tensor (..., d, h, w).
            size: The least shape of the last three axes.
            padding: The padding rule, see `pad_index`.
        """
        shape = x.shape[-3:]
        before, after = pad_amounts((shape[0], shape[1], shape[2]), size)
        i, j, k = (pad_index(*axis, padding) for axis in zip(shape, before, after, strict=True))
        return cls(x, (i, j, k)), before

    def rows(self, axis: int, start: int, length: int) -> Shaped[Tensor, "... pd ph pw"]:
        """Extend only some rows.

        Args:
            axis: The spatial axis (0, 1, 2) along which rows are counted.
            start: The first row of the extended tensor.
            length: The number of rows.
        """
        positions = self.index[axis][start : start + length]
        inside = positions[positions != OUTSIDE]
        first, last = (int(inside.min()), int(inside.max())) if len(inside) else (0, 0)
        needed = self.x.narrow(axis - 3, first, last - first + 1)
        index = list(self.index)
        index[axis] = np.where(positions == OUTSIDE, OUTSIDE, positions - first)
        return take(needed, index)


def crop_back(x: Shaped[Tensor, "... pd ph pw"], offset: Size3, shape: Size3) -> Shaped[Tensor, "... d h w"]:
    """Return the part of a tensor, as a view, that `pad_to` found before it extended it.

    Args:
        x: The extended tensor (..., pd, ph, pw).
        offset: The voxels that were added in front of each axis.
        shape: The shape before it was extended.

    Raises:
        UserError: `x` does not contain such a part.
    """
    stop = [start + length for start, length in zip(offset, shape, strict=True)]
    if min(offset) < 0 or any(end > length for end, length in zip(stop, x.shape[-3:], strict=True)):
        raise UserError(f"a crop of {shape} at {offset} does not fit into {tuple(x.shape[-3:])}")
    return x[..., offset[0] : stop[0], offset[1] : stop[1], offset[2] : stop[2]]


def _reflect(position: np.ndarray, length: int) -> np.ndarray:
    if length == 1:
        return np.zeros_like(position)
    phase: np.ndarray = position % (2 * length - 2)
    folded: np.ndarray = np.minimum(phase, 2 * length - 2 - phase)
    return folded


def _edge(position: np.ndarray, length: int) -> np.ndarray:
    clipped: np.ndarray = np.clip(position, 0, length - 1)
    return clipped


def _zero(position: np.ndarray, length: int) -> np.ndarray:
    return np.where((position >= 0) & (position < length), position, OUTSIDE)


_RULES: dict[Padding, Callable[[np.ndarray, int], np.ndarray]] = {"reflect": _reflect, "edge": _edge, "zero": _zero}
