"""C2FNAS, a searched 3D network that ROG is compared with.

Source: Yu, Yang, Roth, Bai, Zhang, Yuille, Xu: C2FNAS: Coarse-to-Fine Neural Architecture Search for 3D Medical Image
Segmentation, CVPR 2020. No code of its authors was found. Twelve cells on four resolutions, each with one of three
operations, are the paper's search space. Which cell lies where and has which operation is taken from how others read
the paper's figure, in the one public implementation that was found; so are the two convolutions of 1x1x1 in a cell,
the second inputs, the stem and the head. No code was taken over. The figure itself was not at hand to compare.

What cannot be established: the paper's network has 17.02 M parameters and 150.78 G operations at 96 x 96 x 96; for how
many channels and classes, and whether an operation is a multiply-add, is not known here. This one, with one channel and
three classes, has 15.31 M and 157.55 G multiply-adds: fewer weights and more work, so that no single missing or surplus
layer explains both. Other usual stems, heads, second inputs, down- and up-samplings were counted through; none has both
of the paper's figures. What is measured with this network says something about a network like C2FNAS, and is no
figure of C2FNAS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.types import Images, Logits, Size3
from voxward.nets.blocks import InstanceNorm
from voxward.nets.inputs import check_input

# The level of each cell, and its operation. A cell whose level is finer than the one before joins the encoder's output
# of that level; the cells in _JOINED also read what the cell before them has read.
_CELLS = (
    (0, "2d"), (0, "p3d"), (1, "3d"), (1, "3d"), (2, "3d"), (3, "2d"),
    (2, "3d"), (2, "3d"), (1, "p3d"), (0, "3d"), (0, "2d"), (0, "3d"),
)  # fmt: skip
_JOINED = (1, 11)
# Slices lie across the last axis: a 2D operation does not look into the neighbouring ones.
_KERNELS: dict[str, tuple[Size3, ...]] = {
    "2d": ((3, 3, 1),), "3d": ((3, 3, 3),), "p3d": ((3, 3, 1), (1, 1, 3)),
}  # fmt: skip


class C2FNAS(nn.Module):
    """The searched network.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        strides: Stride per axis of the stem, then of each step to the next coarser of the four levels.
        filters: Channels at the images' resolution, doubled by the stem and at each coarser level.

    Raises:
        UserError: There are not four strides of at least 1 per axis, or `filters` is below 1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, strides: Sequence[Size3] = ((2, 2, 2),) * 4, filters: int = 32
    ) -> None:
        super().__init__()
        if len(strides) != 4 or any(len(step) != 3 or min(step) < 1 for step in strides):
            raise UserError(f"strides must be four, of at least 1 per axis, got {tuple(strides)}")
        if filters < 1:
            raise UserError(f"filters must be at least 1, got {filters}")
        self.in_channels = in_channels
        i, j, k = (math.prod(step) for step in zip(*strides, strict=True))
        self.total_stride: Size3 = (i, j, k)
        widths = [filters << level for level in range(1, 5)]
        self.stem = nn.Sequential(
            _conv(in_channels, filters), InstanceNorm(filters), nn.ReLU(),
            _conv(filters, widths[0], strides[0]), InstanceNorm(widths[0]),
        )  # fmt: skip
        self.downs = nn.ModuleList(
            nn.Sequential(nn.ReLU(), _conv(fine, coarse, stride), InstanceNorm(coarse))
            for fine, coarse, stride in zip(widths[:-1], widths[1:], strides[1:], strict=True)
        )
        cells, before = [], 0
        for n, (level, operation) in enumerate(_CELLS):
            second: nn.Module | None = None
            if level < before:
                second = _Up(widths[before], widths[level], strides[before])
            elif n in _JOINED:
                second = _pointwise(widths[level], widths[level])
            cells.append(_Cell(widths[level], operation, second))
            before = level
        self.cells = nn.ModuleList(cells)
        joined = nn.Sequential(nn.ReLU(), _conv(2 * widths[0], widths[0]), InstanceNorm(widths[0]))
        fine = nn.Sequential(nn.ReLU(), _upsample(strides[0]), _conv(widths[0], filters), InstanceNorm(filters))
        self.head = nn.Sequential(joined, fine, nn.ReLU(), _pointwise(filters, out_channels))

    def forward(self, images: Images) -> Logits:
        """Compute the logits of a batch.

        Args:
            images: (b, in_channels, d, h, w).

        Returns:
            Logits (b, out_channels, d, h, w).

        Raises:
            UserError: The channels do not fit, or the total stride does not divide a size.
        """
        check_input(images, self.in_channels, self.total_stride)
        x: Tensor = self.stem(images)
        read, before = x, 0
        encoded: dict[int, Tensor] = {}
        for (level, _), cell in zip(_CELLS, self.cells, strict=True):
            if level > before:
                encoded[before] = x
                x = self.downs[before](x)
            main, second = (encoded.pop(level), x) if level < before else (x, read)
            read, x, before = x, cell(main, second), level
        logits: Tensor = self.head(torch.cat([read, x], 1))
        return logits


class _Cell(nn.Module):
    """A pointwise convolution of each input, the searched operation on their sum, and another pointwise convolution."""

    def __init__(self, channels: int, operation: str, second: nn.Module | None) -> None:
        super().__init__()
        self.first, self.second = _pointwise(channels, channels), second
        kernels = (_conv(channels, channels, kernel=kernel) for kernel in _KERNELS[operation])
        self.operation = nn.Sequential(nn.ReLU(), *kernels, InstanceNorm(channels))
        self.last = _pointwise(channels, channels)

    def forward(self, main: Tensor, second: Tensor) -> Tensor:
        x = self.first(main)
        if self.second is not None:
            x = x + self.second(second)
        out: Tensor = self.last(self.operation(x))
        return out


class _Up(nn.Sequential):
    """From a coarser level, with half of its channels or fewer."""

    def __init__(self, inside: int, outside: int, stride: Size3) -> None:
        super().__init__(_upsample(stride), nn.ReLU(), _pointwise(inside, outside), InstanceNorm(outside))


def _conv(inside: int, outside: int, stride: Size3 = (1, 1, 1), kernel: Size3 = (3, 3, 3)) -> nn.Conv3d:
    i, j, k = (length // 2 for length in kernel)
    return nn.Conv3d(inside, outside, kernel, stride, (i, j, k), bias=False)


def _pointwise(inside: int, outside: int) -> nn.Conv3d:
    return nn.Conv3d(inside, outside, 1, bias=False)


def _upsample(stride: Size3) -> nn.Module:
    return nn.Upsample(scale_factor=tuple(map(float, stride)), mode="trilinear")
