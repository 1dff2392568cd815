"""The ROG lattice (Daza, Perez, Arbelaez, MICCAI 2021, section 2.1): four resolutions, nine depths, 14 nodes.

A node at depth d and level l sums what arrives from the finer level (down), the coarser level (up) and its own level
two depths before (same). Level 0 ends at depth 8, and each coarser level one depth earlier.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxward.core.devices import kind_of
from voxward.core.errors import UserError
from voxward.core.types import Images, Logits, Size3
from voxward.nets.blocks import InstanceNorm, PointwiseConv3d, SeparableConv3d, Upsample
from voxward.nets.inputs import check_input

LEVEL_DEPTHS = ((0, 2, 4, 6, 8), (1, 3, 5, 7), (2, 4, 6), (3, 5))
CHANNELS = (64, 128, 256, 512)
DEFAULT_STRIDES: tuple[Size3, ...] = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))


class Swish(nn.Module):
    """The activation x * sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to a tensor of any shape."""
        return F.silu(x)


class Node(nn.Module):
    """Two pre-activated separable convolutions with a residual, then the exits that this node has.

    Args:
        channels: Number of channels.
        up: Up-sampling factor per axis of the exit to the finer level; None if there is no such exit.
        down: Stride per axis of the exit to the coarser level; None if there is no such exit.
    """

    def __init__(self, channels: int, up: Size3 | None, down: Size3 | None) -> None:
        super().__init__()
        self.core = nn.Sequential(
            Swish(), SeparableConv3d(channels, channels), InstanceNorm(channels),
            Swish(), SeparableConv3d(channels, channels), InstanceNorm(channels),
        )  # fmt: skip
        self.up = _up(channels, up) if up else None
        self.down = _down(channels, down) if down else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the node's features (b, c, d, h, w) without its exits."""
        out: Tensor = x + self.core(x)
        return out


def _up(channels: int, factor: Size3) -> nn.Sequential:
    half = channels // 2
    return nn.Sequential(Swish(), PointwiseConv3d(channels, half), InstanceNorm(half), Upsample(factor))


def _down(channels: int, stride: Size3) -> nn.Sequential:
    return nn.Sequential(Swish(), PointwiseConv3d(channels, 2 * channels, stride), InstanceNorm(2 * channels))


class Lattice(nn.Module):
    """The ROG network, with 2,596,192 + 59 * in_channels + 32 * out_channels parameters.

    Weights start as PyTorch's defaults leave them, as in the released code.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        strides: Five strides per axis: two of the stem, then those between the lattice's four levels. The size of an
            image must be divisible by their product.

    Raises:
        UserError: There are not five strides.
    """

    def __init__(self, in_channels: int, out_channels: int, strides: tuple[Size3, ...] = DEFAULT_STRIDES) -> None:
        super().__init__()
        if len(strides) != 5:
            raise UserError(f"the lattice needs 5 strides (2 of the stem, 3 between its levels), got {len(strides)}")
        first, second, *between = strides
        self.in_channels = in_channels
        self.total_stride = tuple(a * b * c * d * e for a, b, c, d, e in zip(*strides, strict=True))
        self.stem = nn.Sequential(
            SeparableConv3d(in_channels, 32), InstanceNorm(32), Swish(),
            SeparableConv3d(32, 32, first), InstanceNorm(32), Swish(),
        )  # fmt: skip
        self.entry = nn.Sequential(
            SeparableConv3d(32, 32), InstanceNorm(32), Swish(), SeparableConv3d(32, 64, second), InstanceNorm(64)
        )
        self.nodes = nn.ModuleDict(
            {
                f"{depth}-{level}": _node(depth, level, [second, *between])
                for level, depths in enumerate(LEVEL_DEPTHS)
                for depth in depths
            }
        )
        self.combine = nn.Sequential(Swish(), nn.Conv3d(32, 32, 3, padding=1, bias=False), InstanceNorm(32))
        self.restore = Upsample(first)
        self.head = nn.Sequential(Swish(), PointwiseConv3d(32, out_channels))

    def forward(self, images: Images) -> Logits:
        """Compute the logits of a batch.

        Args:
            images: (b, in_channels, d, h, w).

        Returns:
            Logits (b, out_channels, d, h, w).

        Raises:
            UserError: The channels do not fit, or `total_stride` does not divide a size.
        """
        check_input(images, self.in_channels, self.total_stride)
        if kind_of(images).host:
            images = images.contiguous(memory_format=torch.channels_last_3d)
        shallow = self.stem(images)
        deep = self._lattice(self.entry(shallow))
        logits: Tensor = self.head(self.restore(self.combine(deep + shallow)))
        return logits

    def _lattice(self, x: Tensor) -> Tensor:
        arriving: dict[tuple[int, int], Tensor] = {(0, 0): x}
        for depth in range(9):
            for level in (level for level, depths in enumerate(LEVEL_DEPTHS) if depth in depths):
                node = cast(Node, self.nodes[f"{depth}-{level}"])
                out = node(arriving.pop((depth, level)))
                if node.up is not None:
                    _add(arriving, (depth + 1, level - 1), node.up(out))
                if node.down is not None:
                    _add(arriving, (depth + 1, level + 1), node.down(out))
                if depth + 2 in LEVEL_DEPTHS[level]:
                    _add(arriving, (depth + 2, level), out)
        return arriving[9, -1]


def _add(arriving: dict[tuple[int, int], Tensor], place: tuple[int, int], x: Tensor) -> None:
    arriving[place] = arriving[place] + x if place in arriving else x


def _node(depth: int, level: int, strides: list[Size3]) -> Node:
    """A node of the lattice; `strides[level]` leads from the level above (or the stem) into this one."""
    last = depth == LEVEL_DEPTHS[level][-1]
    has_up = level > 0 or last
    has_down = level < 3 and not last
    return Node(CHANNELS[level], strides[level] if has_up else None, strides[level + 1] if has_down else None)
