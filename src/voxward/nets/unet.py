"""The 2D U-Net that MS-NAS compares with: 13,394,177 parameters for one channel and one output.

The paper prints 13.39 M parameters, which the early bilinear version of the public repository milesial/Pytorch-UNet has
(five levels of 64, 128, 256, 512 and 512 channels, batch norm, bilinear up-sampling). No code was taken over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.nets.inputs import check_input
from voxward.nets.layout import Upsample
from voxward.nets.slicewise import Slicewise

_DOWN = (1, 2, 4, 8, 8)
_UP = (4, 2, 1, 1)  # channels of every level, in filters


class UNet(nn.Module):
    """The U-Net for slices.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per pixel.
        strides: Strides along the slice's two axes of the four max-poolings, the finest first.
        filters: Channels of the finest level.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        strides: Sequence[tuple[int, int]] = ((2, 2),) * 4,
        filters: int = 64,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.total_stride = tuple(math.prod(steps) for steps in zip(*strides, strict=True))
        down, up = ([filters * factor for factor in factors] for factors in (_DOWN, _UP))
        self.encoder = nn.ModuleList(
            _double(fewer, more) for fewer, more in zip((in_channels, *down), down, strict=False)
        )
        self.pools = nn.ModuleList(nn.MaxPool2d(step) for step in strides)
        self.raises = nn.ModuleList(Upsample(step) for step in reversed(strides))
        below = (down[-1], *up)
        self.decoder = nn.ModuleList(
            _double(skipped + lower, out) for skipped, lower, out in zip(reversed(down[:-1]), below, up, strict=False)
        )
        self.head = nn.Conv2d(up[-1], out_channels, 1)

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
        x: Tensor = self.encoder[0](images)
        skipped = []
        for pool, level in zip(self.pools, self.encoder[1:], strict=True):
            skipped.append(x)
            x = level(pool(x))
        for up, level, skip in zip(self.raises, self.decoder, reversed(skipped), strict=True):
            x = level(torch.cat([skip, up(x)], 1))
        logits: Tensor = self.head(x)
        return logits


def unet_2d(
    in_channels: int,
    out_channels: int,
    strides: Sequence[Sequence[int]] = ((2, 2, 1),) * 4,
    filters: int = 64,
) -> nn.Module:
    """Create the U-Net for volumes, which it takes slice by slice across the last axis.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        strides: Strides along the volume's three axes of at most four poolings, the finest first. If there are fewer,
            strides of 1 are put in front. The third number of each is 1.
        filters: Channels of the finest level (published: 64).

    Returns:
        A network from (b, in_channels, d, h, w) to logits (b, out_channels, d, h, w).

    Raises:
        UserError: An option is out of range.
    """
    if len(strides) > 4 or any(len(step) != 3 or min(step) < 1 or step[2] != 1 for step in strides):
        raise UserError(f"strides must be at most 4 steps (a, b, 1) of whole numbers from 1 up, got {strides}")
    if filters < 1:
        raise UserError(f"filters must be at least 1, got {filters}")
    steps = ((1, 1),) * (4 - len(strides)) + tuple((step[0], step[1]) for step in strides)
    return Slicewise(UNet(in_channels, out_channels, steps, filters))


def _double(before: int, after: int) -> nn.Module:
    layers = [
        part
        for channels in (before, after)
        for part in (nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
    ]
    return nn.Sequential(*layers)
