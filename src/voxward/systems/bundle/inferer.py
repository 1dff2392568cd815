"""The windows of MONAI's inferers: where they lie, how they are weighted, and what a small image is padded with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from voxward.core.types import Image, Images, Logits, Size3
from voxward.nets.one_sample import quick_on_one_sample
from voxward.pipeline.windows import Forward, Windows
from voxward.systems.bundle.boxes import padded, size3
from voxward.systems.bundle.steps import NewImage

Blend = Literal["constant", "gaussian"]

# Gaussian weights are never smaller than this.
_LEAST = 1e-3


@dataclass(frozen=True)
class Inferer:
    """How an image is segmented in windows.

    Attributes:
        size: The window's length per axis; 0 for the whole axis.
        overlap: The share of a window that neighbours have in common, per axis.
        blend: How overlapping windows are weighted.
        sigma: The standard deviation of Gaussian weights in windows, per axis.
        padding: How PyTorch's pad fills a small image up to a window.
        value: The value, for the padding `constant`.
        slices: The axis across which single slices are segmented by a 2D network; None for a 3D network.
    """

    size: Size3 = (0, 0, 0)
    overlap: tuple[float, float, float] = (0.25, 0.25, 0.25)
    blend: Blend = "constant"
    sigma: tuple[float, float, float] = (0.125, 0.125, 0.125)
    padding: str = "constant"
    value: float = 0.0
    slices: int | None = None

    def window(self, shape: Size3) -> Size3:
        """Return the window's shape in an image."""
        i, j, k = (edge or length for edge, length in zip(self.size, shape, strict=True))
        return i, j, k

    def margins(self, shape: Size3) -> list[tuple[int, int]]:
        """Return, per axis, the voxels before and behind an image that make it as large as a window."""
        missing = [max(edge - length, 0) for edge, length in zip(self.window(shape), shape, strict=True)]
        return [(amount // 2, amount - amount // 2) for amount in missing]

    def padded(self, image: Image) -> NewImage:
        """Pad an image (c, d, h, w) to at least a window. Differentiable."""
        return padded(image, self.margins(size3(image.shape[1:])), self.padding, self.value)

    def unpadded(self, x: Tensor, shape: Size3) -> Tensor:
        """Cut the padding off values (k, d, h, w) of a padded image that has this shape without it."""
        margins = zip(self.margins(shape), shape, strict=True)
        return x[(slice(None), *[slice(low, low + length) for (low, _), length in margins])]

    def windows(self, shape: Size3) -> Windows:
        """Return the windows of an image that has this shape before it is padded."""
        size = self.window(shape)
        whole = size3([max(edge, length) for edge, length in zip(size, shape, strict=True)])
        d, h, w = (starts(length, edge, o) for length, edge, o in zip(whole, size, self.overlap, strict=True))
        # Along the first axis, so that windows are added up in MONAI's order.
        return Windows(whole, size, (d, h, w), weights(size, self.blend, self.sigma), 0)

    def forward(self, network: Forward) -> Forward:
        """Return the network on windows (n, c, d, h, w), of which a 2D network sees the slices."""
        axis = self.slices
        if axis is None:
            return quick_on_one_sample(network)

        def slicewise(images: Images) -> Logits:
            return network(images.squeeze(axis + 2)).unsqueeze(axis + 2)

        return slicewise


def starts(length: int, window: int, overlap: float) -> tuple[int, ...]:
    """Return the first voxels of the windows along an axis: evenly spaced, and the last one moved back to the end.

    Args:
        length: The length of the axis, at least `window`.
        window: The length of a window.
        overlap: The share of a window that neighbours have in common.
    """
    step = window if length == window else max(int(window * (1 - overlap)), 1)
    found = [0]
    while found[-1] + window < length:
        found.append(min(found[-1] + step, length - window))
    return tuple(found)


@lru_cache(maxsize=4)
def weights(size: Size3, blend: Blend, sigma: tuple[float, float, float]) -> Tensor:
    """Return the weights of a window's voxels. They are cached and shared: do not write into them.

    Args:
        size: The window's shape.
        blend: `constant` or `gaussian`.
        sigma: The standard deviation of Gaussian weights in windows, per axis.
    """
    found = torch.ones(size)
    if blend == "constant":
        return found
    for axis, (length, share) in enumerate(zip(size, sigma, strict=True)):
        place = torch.arange(-(length - 1) / 2, (length - 1) / 2 + 1)
        own = torch.exp(place**2 / (-2 * (length * share) ** 2))
        found = found * own.view([-1 if n == axis else 1 for n in range(3)])
    return found.clamp_min(max(float(found.min()), _LEAST))
