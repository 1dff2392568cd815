"""NAS-UNet, one of the 2D networks that MS-NAS compares with, made of the cells that its authors published.

Source: Weng, Zhou, Li, Qiu: NAS-Unet: Neural Architecture Search for Medical Image Segmentation, IEEE Access 2019. What
the paper leaves open is as in its public repository, tianbaochou/NasUnet: the cells are its NASUNET of May 2019, the
sizes those of its configuration for CHAOS (64 channels, 6 cells down; 2.28 M parameters). No code was taken over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.nets.check_input import check_input
from voxward.nets.slicewise import Slicewise

Step = tuple[int, int]

# Two operations per block, each with its input: 0 is the cell before the previous one or, on the way up, the encoder's
# cell; 1 is the previous cell; from 2 on they are the cell's own blocks. An operation on an input of another resolution
# than the output's changes the resolution as well.
_DOWN = ((("conv", 1), ("depthwise", 0)), (("gate", 1), ("dilated", 0)), (("dilated", 1), ("conv", 0)))
_UP = ((("identity", 0), ("gate", 1)), (("identity", 2), ("gate", 1)), (("gate", 3), ("conv", 1)))
_STEM, _BLOCKS = 4, len(_DOWN)  # widths of the stem and between cells, in filters
_GROUP = 16  # channels per group of a norm, and per hidden unit of a gate
_MOST_STEPS = 7


class NasUNet(nn.Module):
    """NAS-UNet for slices.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per pixel.
        steps: Strides along the slice's two axes, of the stem and of each cell down, the finest first.
        filters: Channels of each block.
    """

    def __init__(self, in_channels: int, out_channels: int, steps: Sequence[Step], filters: int = 64) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.total_stride = tuple(math.prod(step) for step in zip(*steps, strict=True))
        stem, width = _STEM * filters, _BLOCKS * filters
        self.flat = nn.Sequential(nn.Conv2d(in_channels, stem, 1, bias=False), _norm(stem))
        self.stem = nn.Sequential(nn.Conv2d(in_channels, stem, 3, steps[0], padding=1, bias=False), _norm(stem))
        widths = [stem, stem, *[width] * (len(steps) - 1)]  # channels of every level, the finest first
        self.down = nn.ModuleList(
            _Cell(widths[n : n + 2], filters, steps[n], steps[n + 1], up=False) for n in range(len(steps) - 1)
        )
        above = [widths[-1], *[width] * (len(steps) - 1)]
        self.up = nn.ModuleList(
            _Cell((skip, below), filters, (1, 1), step, up=True)
            for skip, below, step in zip(reversed(widths[:-1]), above, reversed(steps), strict=True)
        )
        self.head = nn.Conv2d(width, out_channels, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of slices.

        Args:
            images: (b, in_channels, h, w).

        Returns:
            Logits (b, out_channels, h, w).

        Raises:
            UserError: The channels do not fit, or a size is not divisible by the product of the strides.
        """
        check_input(images, self.in_channels, self.total_stride)
        levels = [self.flat(images), self.stem(images)]
        for cell in self.down:
            levels.append(cell(levels[-2], levels[-1]))
        x: Tensor = levels.pop()
        for cell, level in zip(self.up, reversed(levels), strict=True):
            x = cell(level, x)
        logits: Tensor = self.head(x)
        return logits


class _Cell(nn.Module):
    """(before, previous) -> the concatenated blocks, one step coarser than `previous`, or with `up` one step finer.

    widths: channels of the two inputs. before_step: the stride by which `before` is brought down first.
    """

    def __init__(self, widths: Sequence[int], filters: int, before_step: Step, step: Step, up: bool) -> None:
        super().__init__()
        self.genes = _UP if up else _DOWN
        self.entries = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(width, filters, 1, stride, bias=False), _norm(filters))
            for width, stride in zip(widths, (before_step, (1, 1)), strict=True)
        )
        resampled = (1,) if up else (0, 1)
        self.operations = nn.ModuleList(
            _operation(name, filters, step if given in resampled else None, up)
            for block in self.genes
            for name, given in block
        )

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        """Two (b, width, h, w), each with its own width and size, -> (b, blocks * filters, h, w)."""
        states = [entry(x) for entry, x in zip(self.entries, (before, previous), strict=True)]
        operations = iter(self.operations)
        for block in self.genes:
            first, second = (next(operations)(states[given]) for _, given in block)
            states.append(_as_large(first, second) + _as_large(second, first))
        return torch.cat(states[2:], 1)


class _Gate(nn.Module):
    """Each channel times a weight that is computed from the means of all channels (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // _GROUP
        self.weigh = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) -> the same shape."""
        out: Tensor = x * self.weigh(x.mean((2, 3)))[..., None, None]
        return out


def _operation(name: str, channels: int, step: Step | None, up: bool) -> nn.Module:
    """An operation of a cell; step: the factor by which it lowers or raises the resolution, None for 1."""
    if name == "identity":
        return nn.Identity()
    if name == "gate" and step is None:
        return _Gate(channels)
    conv: Callable[..., nn.Module] = nn.ConvTranspose2d if up else nn.Conv2d
    padding = dilation = 2 if name == "dilated" else 1
    groups = channels if name == "depthwise" else 1
    layers = [conv(channels, channels, 3, step, padding, dilation=dilation, groups=groups, bias=False)]
    if name == "depthwise":
        layers.append(nn.Conv2d(channels, channels, 1, bias=False))
    if name == "gate":
        return nn.Sequential(_Gate(channels), *layers, _norm(channels))
    return nn.Sequential(*layers, _norm(channels), nn.ReLU())


def _as_large(x: Tensor, other: Tensor) -> Tensor:
    """Bring x to the larger of two sizes.

    A transposed convolution's output lacks a row and a column, which the nearest ones fill.
    """
    size = tuple(max(a, b) for a, b in zip(x.shape[2:], other.shape[2:], strict=True))
    return x if tuple(x.shape[2:]) == size else F.interpolate(x, size)


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(channels // _GROUP if channels % _GROUP == 0 else 1, channels)


def nas_unet(
    in_channels: int, out_channels: int, strides: Sequence[Sequence[int]] = ((2, 2, 1),) * 4, filters: int = 64
) -> nn.Module:
    """Create NAS-UNet for volumes, which it takes slice by slice across the last axis.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        strides: Strides along the volume's three axes, of the stem and of each cell down, the finest first: 2 to 7
            (published: 7). A single one is put after a stride of 1. The third number of each is 1.
        filters: Channels of each block, at least 16.

    Returns:
        A network from (b, in_channels, d, h, w) to logits (b, out_channels, d, h, w).

    Raises:
        UserError: An option is out of range.
    """
    wrong = [step for step in strides if len(step) != 3 or min(step) < 1 or step[2] != 1]
    if wrong or not 1 <= len(strides) <= _MOST_STEPS:
        raise UserError(f"strides must be 1 to {_MOST_STEPS} steps (a, b, 1) of whole numbers from 1 up, got {strides}")
    if filters < _GROUP:
        raise UserError(f"filters must be at least {_GROUP}, got {filters}")
    steps = [(1, 1)] * (2 - len(strides)) + [(step[0], step[1]) for step in strides]
    return Slicewise(NasUNet(in_channels, out_channels, steps, filters))
