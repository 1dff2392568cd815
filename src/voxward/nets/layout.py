"""The operations and sizes of a searched network, which it shares with the super-net that it was searched in.

Source: MS-NAS (Yan et al., MICCAI 2020), sections 2.1 and 2.2; 2D as published, or 3D with a stride per axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.genotype import Edge, OperationName
from voxward.nets.depthwise import depthwise_conv3d

Stride = tuple[int, ...]

NORMS = ("batch", "instance")
_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOL: dict[int, Callable[..., Tensor]] = {2: F.avg_pool2d, 3: F.avg_pool3d}
_NORM: dict[tuple[str, int], Callable[..., nn.Module]] = {
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
}


class _DepthwiseConv3d(nn.Conv3d):
    """Depthwise convolution without dilation, with fast gradients."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, d, h, w) -> the same shape."""
        i = self.kernel_size[0] // 2
        return depthwise_conv3d(x, self.weight, padding=(i, i, i))


class Upsample(nn.Module):
    """Linear up-sampling by a whole factor per axis.

    Args:
        factor: Factor per axis.
    """

    def __init__(self, factor: Stride) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Resample (b, c, *size) to (b, c, *size * factor)."""
        mode = "bilinear" if len(self.factor) == 2 else "trilinear"
        return F.interpolate(x, scale_factor=tuple(map(float, self.factor)), mode=mode, align_corners=False)


class AveragePool(nn.Module):
    """The mean over 3 voxels per axis, counting only those that lie in the image.

    Args:
        dimensions: 2 or 3.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.pool = _AVERAGE_POOL[dimensions]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the means of (b, c, *size), of the same shape."""
        if min(x.shape[2:]) >= 3:
            return self.pool(x, 3, stride=1, padding=1, count_include_pad=False)
        # PyTorch's 3D pooling refuses an axis shorter than its kernel, even with padding.
        margin = (1, 1) * (x.ndim - 2)
        inside = F.pad(torch.ones_like(x[:1, :1]), margin)
        return self.pool(F.pad(x, margin), 3, stride=1) / self.pool(inside, 3, stride=1)


class SeparableResidual(nn.Module):
    """x + norm(pointwise(depthwise(ReLU(x)))), as in figure 2 of the paper.

    Args:
        layout: The network's sizes.
        channels: Number of channels.
        kernel: Edge of the depthwise kernel.
        dilation: Dilation of the depthwise kernel.
        affine: Give the norm a learned scale and shift.
    """

    def __init__(self, layout: Layout, channels: int, kernel: int, dilation: int, affine: bool) -> None:
        super().__init__()
        conv = _CONV[layout.dimensions]
        spread: type[nn.Conv2d] | type[nn.Conv3d] = conv
        if layout.dimensions == 3 and dilation == 1:
            spread = _DepthwiseConv3d
        padding = dilation * (kernel // 2)
        self.layers = nn.Sequential(
            nn.ReLU(),
            spread(channels, channels, kernel, padding=padding, dilation=dilation, groups=channels, bias=False),
            conv(channels, channels, 1, bias=False),
            layout.norm_layer(channels, affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block's output for (b, channels, *size), of the same shape."""
        out: Tensor = x + self.layers(x)
        return out


@dataclass(frozen=True)
class Layout:
    """The sizes of a network that an architecture search does not choose.

    Attributes:
        dimensions: 2 for a network on slices, 3 for one on volumes.
        strides: The stem's stride per axis, then one from each scale to the next coarser one.
        filters: Channels of a block at scale 0, doubled at each coarser scale.
        blocks: Blocks per cell, whose outputs a cell concatenates.
        norm: `batch` or `instance`.

    Raises:
        UserError: A value is out of range; the message names every problem.
    """

    dimensions: int
    strides: tuple[Stride, ...]
    filters: int = 32
    blocks: int = 3
    norm: str = "batch"

    def __post_init__(self) -> None:
        found = [] if self.dimensions in (2, 3) else [f"dimensions must be 2 or 3, got {self.dimensions}"]
        if not self.strides or any(len(step) != self.dimensions or min(step) < 1 for step in self.strides):
            found.append(f"strides must have {self.dimensions} whole numbers from 1 up each, got {self.strides}")
        for name in ("filters", "blocks"):
            if getattr(self, name) < 1:
                found.append(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.norm not in NORMS:
            found.append(f"norm must be one of {', '.join(NORMS)}, got {self.norm!r}")
        if found:
            raise UserError("; ".join(found))

    def width(self, scale: int) -> int:
        """Return the channels of a block.

        Args:
            scale: The scale, 0 is the finest.
        """
        return self.filters << scale

    def channels(self, scale: int) -> int:
        """Return the channels of a node, which are those of a cell's concatenated blocks.

        Args:
            scale: The scale, 0 is the finest.
        """
        return self.blocks * self.width(scale)

    def total_stride(self, scale: int) -> Stride:
        """Return the product of the strides down to a scale, per axis.

        Args:
            scale: The scale, 0 is the finest.
        """
        return tuple(math.prod(steps) for steps in zip(*self.strides[: scale + 1], strict=True))

    def norm_layer(self, channels: int, affine: bool = True) -> nn.Module:
        """Create a normalisation of (b, channels, *size).

        Args:
            channels: Number of channels.
            affine: Give it a learned scale and shift.
        """
        return _NORM[self.norm, self.dimensions](channels, affine=affine)

    def stem(self, in_channels: int) -> nn.Module:
        """Create the stem, from images to node (0, 0).

        Args:
            in_channels: Number of image channels.
        """
        conv: Callable[..., nn.Module] = _CONV[self.dimensions]
        channels = self.channels(0)
        first = conv(in_channels, channels, 3, stride=self.strides[0], padding=1, bias=False)
        return nn.Sequential(first, self.norm_layer(channels))

    def head(self, out_channels: int) -> nn.Module:
        """Create the head, from the last node to logits at the images' resolution.

        Args:
            out_channels: Number of logits per voxel.
        """
        score = _CONV[self.dimensions](self.channels(0), out_channels, 1)
        return nn.Sequential(score, _resample(Upsample, self.strides[0]))

    def entry(self, edge: Edge, affine: bool = True) -> nn.Module:
        """Create the start of an edge's cell, from the source node to a block at the target's scale.

        Args:
            edge: The edge.
            affine: Give the norm a learned scale and shift.
        """
        scale, width = edge.scale, self.width(edge.scale)
        resample: nn.Module = nn.Identity()
        if edge.kind == "down":
            resample = _resample(_MAX_POOL[self.dimensions], self.strides[scale])
        elif edge.kind == "up":
            resample = _resample(Upsample, self.strides[scale + 1])
        project = _CONV[self.dimensions](self.channels(edge.source[1]), width, 1, bias=False)
        return nn.Sequential(resample, nn.ReLU(), project, self.norm_layer(width, affine))

    def operation(self, name: OperationName, channels: int, affine: bool = True) -> nn.Module:
        """Create a searchable operation, from (b, channels, *size) to the same shape.

        Args:
            name: A name in `OPERATIONS`.
            channels: Number of channels.
            affine: Give norms a learned scale and shift.
        """
        return OPERATIONS[name](self, channels, affine)


def _resample(build: Callable[[Stride], nn.Module], stride: Stride) -> nn.Module:
    return build(stride) if max(stride) > 1 else nn.Identity()


# The paper names four operations and "etc.", while the size that it gives for its space needs five; sep5 is our choice.
OPERATIONS: dict[OperationName, Callable[[Layout, int, bool], nn.Module]] = {
    "sep3": lambda layout, channels, affine: SeparableResidual(layout, channels, 3, 1, affine),
    "sep5": lambda layout, channels, affine: SeparableResidual(layout, channels, 5, 1, affine),
    "dil3": lambda layout, channels, affine: SeparableResidual(layout, channels, 3, 2, affine),
    "avg3": lambda layout, channels, affine: AveragePool(layout.dimensions),
    "skip": lambda layout, channels, affine: nn.Identity(),
}


def stage_strides(
    dimensions: int, scales: int, steps: Sequence[Sequence[int]] | None = None, flat_stem: bool | None = None
) -> tuple[Stride, ...]:
    """Return the strides of a `Layout`.

    Args:
        dimensions: 2 or 3.
        scales: Number of scales.
        steps: Strides of downsampling along the volume's three axes, the finest first; None: 2 everywhere. As many as
            there are scales are used, and if there are fewer, strides of 1 are put in front. A 2D network has stride 1
            along the third axis.
        flat_stem: Whether the stem keeps the resolution. None: in 2D, as published, and not in 3D, where no memory
            would hold it.

    Raises:
        UserError: A step does not have one legal number per axis.
    """
    if steps is None:
        steps = ((2, 2, 2 if dimensions == 3 else 1),) * scales
    wrong = [step for step in steps if len(step) != 3 or min(step) < 1 or (dimensions == 2 and step[2] != 1)]
    if wrong:
        third = " and 1 along the third" if dimensions == 2 else ""
        raise UserError(f"strides of a {dimensions}D network must have 3 whole numbers from 1 up{third}, got {wrong}")
    flat, used = (1,) * dimensions, [tuple(step[:dimensions]) for step in steps]
    if flat_stem if flat_stem is not None else dimensions == 2:
        used = [flat, *used]
    return (flat,) * (scales - len(used)) + tuple(used[:scales])
