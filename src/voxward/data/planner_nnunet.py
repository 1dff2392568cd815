"""nnU-Net v2's rules for patch, pooling and batch size (Isensee et al., Nature Methods 2021), for three dimensions.

For an axis of one voxel (2D images) the rules run over the other two axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from voxward.core.types import Float3, Size3

# nnU-Net's unit of memory: feature voxels of a sample's activations. A batch of 2 with 560e6 of them each takes 8 GB.
_UNITS_PER_GIB = 560e6 / 8
_REFERENCE_BATCH = 2
_SMALLEST_EDGE = 4
_MOST_POOLINGS = 5
_FEATURES = (32, 64, 128, 256, 320, 320)
# Edge in voxels of the cube (3D) or square (2D) that the patch starts from.
_START = {3: 256.0, 2: 2048.0, 1: 2048.0, 0: 1.0}


@dataclass(frozen=True)
class Pooling:
    """How a network halves the resolution.

    Attributes:
        strides: One stride per axis for each downsampling step.
        kernel_sizes: One kernel edge per axis for each resolution level; there is one level more than steps.
    """

    strides: tuple[Size3, ...]
    kernel_sizes: tuple[Size3, ...]

    @property
    def total(self) -> Size3:
        """Return the product of the strides per axis."""
        i, j, k = (math.prod(step[axis] for step in self.strides) for axis in range(3))
        return i, j, k


@dataclass(frozen=True)
class NnunetSizes:
    """The sizes that nnU-Net's rules choose.

    Attributes:
        patch: The training patch in voxels.
        pooling: Strides and kernels for that patch.
        batch_size: The batch size that the memory allows.
    """

    patch: Size3
    pooling: Pooling
    batch_size: int


def nnunet_sizes(median: Float3, spacing: Float3, voxels: float, classes: int, memory_gib: float) -> NnunetSizes:
    """Return patch, pooling and batch size for a dataset.

    The patch starts as a cube in mm within the median shape. It loses voxels on the axis of which it covers most, until
    the estimated memory of a training step fits. The batch size is at least 2, and a batch covers at most 5 % of the
    dataset.

    Args:
        median: The median shape of the cases at the target spacing, in voxels.
        spacing: The target spacing in mm.
        voxels: The number of voxels of the whole dataset.
        classes: The number of classes, background included.
        memory_gib: The memory of a training step in GiB.
    """
    budget = _UNITS_PER_GIB * memory_gib
    patch, pooling = fit_pooling(_start(median, spacing), spacing)
    while _units(patch, pooling, classes) > budget:
        axis = max(range(3), key=lambda n: (patch[n] > pooling.total[n], patch[n] / median[n]))
        smaller, next_pooling = _shrunk(patch, pooling, axis, spacing)
        if math.prod(smaller) >= math.prod(patch):
            break
        patch, pooling = smaller, next_pooling
    by_memory = round(_REFERENCE_BATCH * budget / _units(patch, pooling, classes))
    by_dataset = round(0.05 * voxels / math.prod(patch))
    return NnunetSizes(patch, pooling, max(2, min(by_memory, by_dataset)))


def nnunet_spacing(shapes: list[Size3], spacings: list[Float3]) -> Float3:
    """Return the target spacing of a dataset: the median, but finer along a coarse axis.

    An axis is coarse if its median spacing is over 3 times the others' and it has under a third of their voxels. It
    gets the 10th percentile of its spacings instead, but stays the coarsest.

    Args:
        shapes: The shapes of the cases in voxels.
        spacings: The spacings of the cases in mm.
    """
    median = [float(np.percentile([spacing[axis] for spacing in spacings], 50)) for axis in range(3)]
    size = [float(np.percentile([float(shape[axis]) for shape in shapes], 50)) for axis in range(3)]
    coarse = max(range(3), key=lambda axis: median[axis])
    others = [axis for axis in range(3) if axis != coarse]
    next_coarsest = max(median[axis] for axis in others)
    if median[coarse] > 3 * next_coarsest and size[coarse] * 3 < min(size[axis] for axis in others):
        median[coarse] = max(next_coarsest, float(np.percentile([spacing[coarse] for spacing in spacings], 10)))
    x, y, z = median
    return x, y, z


def pooling_of(patch: Size3, spacing: Float3) -> Pooling:
    """Return the pooling of a patch.

    Every axis is halved while its edge stays at least 4 voxels and its spacing within a factor 2 of the finest such
    axis. Kernels are 1 along an axis until its spacing is within a factor 2 of the finest, and always along a single
    voxel.

    Args:
        patch: The patch in voxels.
        spacing: The spacing in mm.
    """
    size, mm, wide = list(patch), list(spacing), [False, False, False]
    free = [axis for axis in range(3) if patch[axis] > 1]
    strides: list[Size3] = []
    kernels: list[Size3] = []
    while True:
        finest = min((mm[axis] for axis in free), default=1.0)
        wide = [wide[axis] or (axis in free and mm[axis] < 2 * finest) for axis in range(3)]
        kernels.append(_size3([3 if open_ else 1 for open_ in wide]))
        pooled = _poolable(size, mm)
        if not pooled or len(strides) == _MOST_POOLINGS:
            # The bottleneck sees all axes: nothing coarser follows that could join them.
            kernels[-1] = _size3([3 if axis in free else 1 for axis in range(3)])
            return Pooling(tuple(strides), tuple(kernels))
        strides.append(_size3([2 if axis in pooled else 1 for axis in range(3)]))
        size = [-(-length // stride) for length, stride in zip(size, strides[-1], strict=True)]
        mm = [length * stride for length, stride in zip(mm, strides[-1], strict=True)]


def _poolable(size: list[int], mm: list[float]) -> list[int]:
    long = [axis for axis in range(3) if size[axis] >= 2 * _SMALLEST_EDGE]
    pooled = [axis for axis in long if mm[axis] < 2 * min(mm[other] for other in long)]
    # A single axis is halved only while it is clearly long.
    return [] if len(pooled) == 1 and size[pooled[0]] < 3 * _SMALLEST_EDGE else pooled


def _start(median: Float3, spacing: Float3) -> Size3:
    free = [axis for axis in range(3) if median[axis] >= 1.5]
    edge = _START[len(free)] * math.prod(spacing[axis] for axis in free) ** (1 / max(1, len(free)))
    return _size3([max(1, round(min(edge / spacing[axis], median[axis]))) if axis in free else 1 for axis in range(3)])


def fit_pooling(patch: Size3, spacing: Float3) -> tuple[Size3, Pooling]:
    """Return a patch rounded up to what its pooling divides, and that pooling.

    Args:
        patch: The patch in voxels.
        spacing: The spacing in mm.
    """
    pooling = pooling_of(patch, spacing)
    return _size3([-(-n // step) * step for n, step in zip(patch, pooling.total, strict=True)]), pooling


def _shrunk(patch: Size3, pooling: Pooling, axis: int, spacing: Float3) -> tuple[Size3, Pooling]:
    smaller = list(patch)
    smaller[axis] = max(1, smaller[axis] - pooling.total[axis])
    # The step that the smaller patch needs may be finer: then less is taken away, as nnU-Net does.
    step = pooling_of(_size3(smaller), spacing).total[axis]
    smaller[axis] = max(1, patch[axis] - step)
    return fit_pooling(_size3(smaller), spacing)


def _units(patch: Size3, pooling: Pooling, classes: int) -> float:
    """Feature voxels of a U-Net's activations: two convolutions per level down, two and an upsampling up."""
    total, voxels = 0.0, float(math.prod(patch))
    for level in range(len(pooling.kernel_sizes)):
        if level:
            voxels /= math.prod(pooling.strides[level - 1])
        bottom = level == len(pooling.strides)
        total += voxels * (_FEATURES[level] * (2 if bottom else 5) + (0 if bottom else classes))
    return total


def _size3(values: list[int]) -> Size3:
    i, j, k = values
    return i, j, k
