"""nnU-Net's windows: where they lie, how they are weighted, and their sums in half precision.

nnU-Net adds up weighted logits as 16-bit numbers. At the rim of a volume, where the weights are smallest, that changes
logits by up to a half; so a prediction that must equal nnU-Net's is added up in the same numbers and the same order.
A gradient goes through the same windows in 32 bits, see `systems.nnunet.member`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from voxward.core.types import CaseLogits, Image, Size3
from voxward.pipeline.predictor import Done
from voxward.pipeline.tta import flips
from voxward.pipeline.windows import Forward, Windows, gather

# A window's centre weighs ten times what it would by itself, so that small weights do not vanish in 16 bits.
_PEAK = 10
_SIGMAS = 8


@lru_cache(maxsize=4)
def gaussian(window: Size3) -> Tensor:
    """Return the weights of a window's voxels, float16. It is cached and shared: do not write into it.

    The standard deviation is an eighth of the window, and the centre of an even axis is the voxel after the middle. An
    axis of one voxel has weight 1.

    Args:
        window: The window's shape in voxels.
    """
    weights = np.zeros(window)
    weights[tuple(length // 2 for length in window)] = 1
    sigmas = [length / _SIGMAS if length > 1 else 0 for length in window]
    weights = ndimage.gaussian_filter(weights, sigmas, 0, mode="constant", cval=0)
    half = torch.from_numpy(weights / (weights.max() / _PEAK)).half()
    half[half == 0] = half[half > 0].min()
    return half


def starts(length: int, window: int, overlap: float = 0.5) -> tuple[int, ...]:
    """Return the first voxels of the windows along an axis.

    Args:
        length: The number of voxels of the axis, at least `window`.
        window: The length of a window.
        overlap: The share of a window that neighbours have in common.
    """
    count = math.ceil((length - window) / (window * (1 - overlap))) + 1
    step = (length - window) / (count - 1) if count > 1 else 0.0
    return tuple(int(np.round(step * n)) for n in range(count))


def plan_of(shape: Size3, window: Size3, slicewise: bool) -> Windows:
    """Return the windows that cover a volume, with the weights as float32.

    Args:
        shape: The shape of the padded volume.
        window: The shape of a window.
        slicewise: Whether every slice across the first axis has windows of its own.
    """
    d, h, w = (starts(length, edge) for length, edge in zip(shape, window, strict=True))
    first = tuple(range(shape[0])) if slicewise else d
    return Windows(shape, window, (first, h, w), gaussian(window).float(), 0)


def mirrored_mean(network: Forward, axes: Sequence[int]) -> Forward:
    """Return a forward pass that is the mean over mirrored copies, added up in nnU-Net's order.

    Args:
        network: The forward pass on windows (n, c, d, h, w).
        axes: The spatial axes (0, 1, 2) along which copies are mirrored.
    """
    dims = [[axis - 3 for axis in subset] for subset in flips(axes)]

    def mean(images: Tensor) -> Tensor:
        total = network(images)
        for moved in dims[1:]:
            total = total + network(images.flip(moved)).flip(moved)
        return total / len(dims)

    return mean


def half_sums(
    forward: Forward, image: Image, windows: Windows, outputs: int, done: Callable[[int], None] | None = None
) -> CaseLogits:
    """Return the logits of an image in windows, added up in half precision, window by window.

    Args:
        forward: From windows (1, c, *size) to logits (1, k, *size).
        image: The padded image (c, d, h, w).
        windows: The windows.
        outputs: The number of classes or regions (k).
        done: Told how many windows are finished.

    Returns:
        Logits (k, d, h, w), float16.
    """
    weights = gaussian(windows.size)
    total = torch.zeros((outputs, *windows.shape), dtype=torch.float16)
    norm = torch.zeros(windows.shape, dtype=torch.float16)
    for n, corner in enumerate(windows.corners):
        place = tuple(slice(start, start + edge) for start, edge in zip(corner, windows.size, strict=True))
        # In nnU-Net a product is float32 before it is added.
        total[(slice(None), *place)] += forward(gather(image, [corner], windows.size))[0].cpu() * weights
        norm[place] += weights
        if done is not None:
            done(n + 1)
    return total.div_(norm)


def reporter(done: Done | None, windows: Windows, folds: int, fold: int) -> Callable[[int], None] | None:
    """Return what tells about the windows of one fold as a share of all folds."""
    if done is None:
        return None
    return lambda finished: done(fold * windows.count + finished, folds * windows.count)
