"""The U-Net of Henry et al., BraTS 2020 (section 2.1, Fig. 2), with its option of attention (CBAM, Woo et al. 2018).

It has four resolutions, and a pseudo fifth stage of two dilated convolutions at the resolution of the fourth, so that
nothing is lost to a further pooling. What the paper leaves open follows the authors' code: initialisation, 16 groups,
aligned corners, and attention after the dilated convolutions and the one that joins them as well, not only after the
encoder's.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.types import Images, Logits, Size3
from voxward.nets.blocks import InstanceNorm, Upsample
from voxward.nets.check_input import check_input

Norm = Literal["group", "instance"]
Outputs = Logits | tuple[Logits, ...]

STRIDES: tuple[Size3, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
GROUPS = 16
# Channels per hidden one in the channel gate's perceptron; edge of the spatial gate's kernel (CBAM, section 3).
REDUCTION, SPATIAL_KERNEL = 16, 7


class BratsUNet(nn.Module):
    """A U-Net with a dilated bottom and four auxiliary heads, which are dropped outside training.

    With 4 input channels and 3 outputs it has 23,154,735 parameters, 23,152,563 without the heads; with attention
    23,207,760 and 23,205,588.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        attention: Put CBAM after the encoder's stages, the bottom and the stage that joins it.
        norm: `group` (pipeline A) or `instance` (pipeline B); both have the same number of parameters.
        width: Channels of the finest resolution, at least 2, doubled by each pooling.
        auxiliary: Have auxiliary heads.
        dropout: Probability of dropout after the ReLU of each convolution, in [0, 1).
        gate_relu: Put a ReLU before the spatial gate's sigmoid, as in the authors' code. The gate then lies in [0.5, 1)
            and can at most halve, where CBAM's own lies in (0, 1).
        thin: Halve the width of each stage's first convolution and of the last one. This is the default of the authors'
            command line, which is not the paper's network.
        strides: Strides per axis of the three poolings.

    Raises:
        UserError: An option is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        attention: bool = False,
        norm: Norm = "group",
        width: int = 48,
        auxiliary: bool = True,
        dropout: float = 0.0,
        gate_relu: bool = False,
        thin: bool = False,
        strides: tuple[Size3, ...] = STRIDES,
    ) -> None:
        super().__init__()
        _check(norm, width, dropout, strides)
        one, two, three, four = widths = tuple(width << level for level in range(4))
        self.in_channels = in_channels
        self.total_stride = tuple(a * b * c for a, b, c in zip(*strides, strict=True))

        def unit(inside: int, outside: int, dilation: int = 1) -> nn.Sequential:
            return _unit(inside, outside, dilation, norm, dropout)

        def attended(*layers: nn.Module, channels: int) -> nn.Sequential:
            return nn.Sequential(*layers, *([Attention(channels, norm, gate_relu)] if attention else []))

        def stage(inside: int, outside: int) -> nn.Sequential:
            middle = outside // 2 if thin else outside
            return attended(unit(inside, middle), unit(middle, outside), channels=outside)

        self.pools = nn.ModuleList(nn.MaxPool3d(stride) for stride in strides)
        self.encoder = nn.ModuleList(map(stage, (in_channels, one, two, three), widths))
        self.bottom = attended(unit(four, four, 2), unit(four, four, 2), channels=four)
        self.join = attended(unit(2 * four, three), channels=three)
        self.ups = nn.ModuleList(map(Upsample, strides[::-1]))
        last = one // 2 if thin else one
        self.decoder = nn.ModuleList(
            nn.Sequential(unit(2 * inside, inside), unit(inside, outside))
            for inside, outside in ((three, two), (two, one), (one, last))
        )
        self.score = nn.Conv3d(last, out_channels, 1)
        self.auxiliary = nn.ModuleList(
            _head(inside, out_channels, strides[:poolings])
            for inside, poolings in ((four, 3), (three, 3), (two, 2), (one, 1))
        ) if auxiliary else None  # fmt: skip
        _initialise(self)

    def forward(self, images: Images) -> Outputs:
        """Compute the logits of a batch.

        Args:
            images: (b, in_channels, d, h, w).

        Returns:
            Logits (b, out_channels, d, h, w). In training mode, with auxiliary heads, a tuple: these logits, then those
            of the bottom, of the stage that joins it to the encoder, and of the decoder's first two stages, all of the
            images' size.

        Raises:
            UserError: The channels do not fit, or `total_stride` does not divide a size.
        """
        check_input(images, self.in_channels, self.total_stride)
        features = [self.encoder[0](images)]
        for pool, stage in zip(self.pools, self.encoder[1:], strict=True):
            features.append(stage(pool(features[-1])))
        bottom = self.bottom(features[-1])
        x = self.join(torch.cat([features.pop(), bottom], 1))
        supervised = [bottom, x]
        for up, stage in zip(self.ups, self.decoder, strict=True):
            x = stage(torch.cat([features.pop(), up(x)], 1))
            supervised.append(x)
        logits: Tensor = self.score(x)
        if self.auxiliary is None or not self.training:
            return logits
        return logits, *(head(given) for head, given in zip(self.auxiliary, supervised[:-1], strict=True))


class Attention(nn.Module):
    """CBAM: the features times a gate per channel, then times a gate per voxel.

    Args:
        channels: Number of channels.
        norm: Norm of the spatial gate, `group` or `instance`.
        gate_relu: Put a ReLU before the spatial gate's sigmoid.
    """

    def __init__(self, channels: int, norm: Norm, gate_relu: bool = False) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, 1)
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = nn.Sequential(
            nn.Conv3d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False),
            _norm(norm, 1),
            nn.ReLU() if gate_relu else nn.Identity(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the features (b, c, d, h, w) with both gates."""
        x = x * self.channel_gate(x)
        return x * self.spatial_gate(x)

    def channel_gate(self, x: Tensor) -> Tensor:
        """Return the gate of each channel (b, c, 1, 1, 1), from 0 to 1, for features (b, c, d, h, w)."""
        axes = (2, 3, 4)
        scores: Tensor = self.channel(x.mean(axes)) + self.channel(x.amax(axes))
        return torch.sigmoid(scores)[..., None, None, None]

    def spatial_gate(self, x: Tensor) -> Tensor:
        """Return the gate of each voxel (b, 1, d, h, w), 0 (with gate_relu 0.5) to 1, for features (b, c, d, h, w)."""
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return torch.sigmoid(self.spatial(pooled))


def _unit(inside: int, outside: int, dilation: int, norm: Norm, dropout: float) -> nn.Sequential:
    convolution = nn.Conv3d(inside, outside, 3, padding=dilation, dilation=dilation, bias=False)
    dropped = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(convolution, _norm(norm, outside), nn.ReLU(inplace=True), *dropped)


def _norm(kind: Norm, channels: int) -> nn.Module:
    # The greatest number of groups up to 16 of equal sizes, so that any width is legal.
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels) if kind == "group" else InstanceNorm(channels)


def _head(inside: int, classes: int, strides: tuple[Size3, ...]) -> nn.Sequential:
    i, j, k = (math.prod(steps) for steps in zip(*strides, strict=True))
    return nn.Sequential(nn.Conv3d(inside, classes, 1), Upsample((i, j, k)))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _check(norm: str, width: int, dropout: float, strides: tuple[Size3, ...]) -> None:
    if norm not in ("group", "instance"):
        raise UserError(f"norm must be one of group, instance, got {norm!r}")
    if width < 2:
        raise UserError(f"width must be at least 2, got {width}")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout must be in [0, 1), got {dropout}")
    if len(strides) != 3 or any(step < 1 for stride in strides for step in stride):
        raise UserError(f"strides must be three, of positive steps per axis, got {strides}")
