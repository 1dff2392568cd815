"""ROG's rules for patch, window and strides (Daza et al., MICCAI 2021, as their release computes them).

What the release did not meet is decided here: axes under 8 voxels, 2D images, objects of one voxel, windows that the
strides would not divide, and memory for more than its batches of 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxward.core.errors import UserError
from voxward.core.types import Float3, Size3

# Objects under this volume (voxels) get one downsampling step less.
_SMALL_VOLUME = 32**3
# Voxels of the coarsest level that are too many, in the release's two rounds of saving memory.
_TOO_MANY, _STILL_TOO_MANY = 864, 576
_MARGIN = 20
_LONGEST_Z = 160.0
# Numbers that the lattice keeps for its backward pass, per voxel of the input, after the first stride, and of its four
# levels: counted in the network (channels times tensors); its own few input and output channels come on top.
_KEPT = (160, 352, 3328, 6272, 9344, 11776)
# What Dice and cross-entropy keep beside them, per class and input voxel.
_KEPT_BY_LOSS = 8
# Gradients on their way and the convolutions' workspace, on top of what is kept.
_IN_FLIGHT = 1.25
_SMALLEST_BATCH = 2
_FEWEST_STEPS = 25


@dataclass(frozen=True)
class RogSizes:
    """The sizes that ROG's rules choose, in voxels per axis.

    Attributes:
        patch: The training patch.
        window: The prediction window.
        source: What is read before augmentation.
        strides: One stride per axis for each of the five steps.
    """

    patch: Size3
    window: Size3
    source: Size3
    strides: tuple[Size3, ...]


@dataclass(frozen=True)
class _Axis:
    """One axis under one trial: `length` after shrinking, `exponent` = log2 of its total stride."""

    length: float
    exponent: int
    patch: int

    @property
    def coarsest(self) -> int:
        return self.patch >> self.exponent


def rog_sizes(mean_size: Float3, small_size: Float3, volume_small: float) -> RogSizes:
    """Return the sizes for a dataset. All lengths are in voxels of the target spacing; the third axis is z.

    Args:
        mean_size: The median shape of the cases.
        small_size: The median box of the smallest class.
        volume_small: The smallest class's median volume in voxels.

    Raises:
        UserError: A size is not positive.
    """
    if min(*mean_size, *small_size) <= 0:
        raise UserError(f"sizes must be positive, got mean_size {mean_size} and small_size {small_size}")
    mean = (mean_size[0], mean_size[1], min(mean_size[2], _LONGEST_Z))
    lengths = tuple(0.7 * length if length > 128 else float(length) for length in mean)
    depth = 4 if volume_small < _SMALL_VOLUME else 5
    axes = _trial(lengths, small_size, depth, cap=7)
    if _coarsest(axes) >= _TOO_MANY:
        depth = 5
        axes = _trial(lengths, small_size, depth, cap=7)
    if _coarsest(axes) >= _STILL_TOO_MANY:
        axes = _trial(lengths, small_size, depth, cap=6)
    axes = _deepened(axes)
    return RogSizes(
        _size3([axis.patch for axis in axes]),
        _size3([_window(axis, length) for axis, length in zip(axes, mean, strict=True)]),
        _size3([axis.patch + _MARGIN if axis.patch + _MARGIN < axis.length else axis.patch for axis in axes]),
        _strides([axis.exponent for axis in axes], depth),
    )


def rog_batch_size(sizes: RogSizes, cases: int, classes: int, memory_gib: float) -> int:
    """Return how many patches a training step of the lattice holds in the memory, in float32.

    The release always takes 2. An epoch of `cases` patches keeps at least 25 steps, but a batch is never smaller than
    the release's.

    Args:
        sizes: The sizes of the dataset.
        cases: The number of training cases.
        classes: The number of classes, background included.
        memory_gib: The memory of a training step in GiB.
    """
    by_memory = int(memory_gib * 2**30 / _bytes_per_patch(sizes, classes))
    return max(_SMALLEST_BATCH, min(by_memory, cases // _FEWEST_STEPS))


def _bytes_per_patch(sizes: RogSizes, classes: int) -> float:
    voxels = float(math.prod(sizes.patch))
    numbers = voxels * (_KEPT[0] + _KEPT_BY_LOSS * classes)
    for kept, stride in zip(_KEPT[1:], sizes.strides, strict=True):
        voxels /= math.prod(stride)
        numbers += voxels * kept
    return 4 * _IN_FLIGHT * numbers


def _trial(lengths: tuple[float, ...], small_size: Float3, depth: int, cap: int) -> list[_Axis]:
    return [_axis(length, small, depth, cap) for length, small in zip(lengths, small_size, strict=True)]


def _axis(length: float, small: float, depth: int, cap: int) -> _Axis:
    """The largest power of two (or 1.5 times it) that fits, and strides that leave something of the small object."""
    if length < 8:
        # Too thin to be downsampled: any patch is legal, so it takes the whole axis.
        return _Axis(length, 0, max(1, int(length)))
    power = min(_log2(length), cap)
    exponent = min(_log2(small), depth, power - 2)
    enough = depth == 5 and 2 ** (power - exponent) >= 8
    return _Axis(length, exponent, 2**power if enough else _stretched(2**power, length))


def _deepened(axes: list[_Axis]) -> list[_Axis]:
    """More stride where the coarsest level is still too large, longest edge first.

    The release's ten tasks never come here; a dataset with objects of a few voxels does, and would not fit any memory.
    """
    while _coarsest(axes) >= _STILL_TOO_MANY:
        longest = max(range(3), key=lambda n: axes[n].coarsest)
        axis = axes[longest]
        axes = [*axes[:longest], _Axis(axis.length, axis.exponent + 1, axis.patch), *axes[longest + 1 :]]
    return axes


def _window(axis: _Axis, mean: float) -> int:
    """Half the mean length or the own power of two, whichever is more, as a multiple of the total stride."""
    own = axis.patch if axis.length < 8 else _stretched(2 ** min(_log2(axis.length), 7), axis.length)
    step = 1 << axis.exponent
    return -(-max(int(mean // 2), own) // step) * step


def _stretched(size: int, length: float) -> int:
    return size * 3 // 2 if 1.5 * size < length else size


def _strides(exponents: list[int], depth: int) -> tuple[Size3, ...]:
    """Five steps; an axis is halved in its last ones, and a depth of four starts with a step at full resolution."""
    steps = [_size3([2 if step >= depth - exponent else 1 for exponent in exponents]) for step in range(depth)]
    return (*((1, 1, 1),) * (5 - depth), *steps)


def _coarsest(axes: list[_Axis]) -> int:
    return math.prod(axis.coarsest for axis in axes)


def _log2(length: float) -> int:
    return int(math.log2(max(1.0, length)))


def _size3(values: list[int]) -> Size3:
    i, j, k = values
    return i, j, k
