"""ResDSN and its relatives (Zhou et al., "3D coarse-to-fine", Fig. 3 and Table 1): one network with options.

What the paper leaves open follows the code that it names as its baseline (3D-DSN of HeartSeg) and the same authors'
later one: convolutions have biases in addition to the norms, the auxiliary up-samplings have none, and the long
residual is added after the decoder's convolutions. The short residual is not described in the paper. Here the result of
a step's first layer is added to that of its last one, which needs no further weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.types import Images, Logits, Size3
from voxward.nets.check_input import check_input

Long = Literal["sum", "concat", "none"]
Short = Literal["sum", "none"]
Norm = Literal["batch", "instance"]
Outputs = Logits | tuple[Logits, ...]

CHANNELS = (32, 64, 128, 256)
STRIDES: tuple[Size3, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
# From the stride along an axis to the up-sampling's kernel there: with padding 1 the size is multiplied by the stride.
_KERNELS = {1: 3, 2: 4}

PRESETS: dict[str, Mapping[str, Any]] = {
    "resdsn": {},
    "fresdsn": {"short": "sum"},
    "sresdsn": {"long": "none", "short": "sum"},
    "dsn": {"long": "none", "decoder_convs": 0},
    "unet-like": {"long": "concat", "auxiliary": False},
    "vnet-like": {"long": "concat", "short": "sum", "auxiliary": False},
    "voxresnet-like": {"long": "none", "short": "sum"},
    "mixedresnet-like": {"short": "sum"},
    "hed-like": {"long": "concat"},
}
"""Table 1 of the paper. Those that end in -like are of the named network's type, not its layers and channels."""


class ResDSN(nn.Module):
    """An encoder and decoder of four resolutions, with auxiliary heads that are dropped outside training.

    ResDSN with 1 input channel and 2 classes has 7,608,390 parameters, 6,821,826 of them without the auxiliary heads.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        long: How the encoder's features reach the decoder: `sum`, `concat` or `none`.
        short: Residuals inside a step: `sum` or `none`.
        auxiliary: Have auxiliary heads on Conv2b and Conv3b.
        decoder_convs: Convolutions after each up-sampling; a concatenation needs at least one.
        add: Whether a long sum comes `before` or `after` these convolutions (a concatenation always comes before).
        norm: `batch` or `instance`.
        channels: Channels of the four resolutions, the finest first.
        strides: Strides per axis between them, each 1 or 2.

    Raises:
        UserError: An option is out of range, such as a concatenation without convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        long: Long = "sum",
        short: Short = "none",
        auxiliary: bool = True,
        decoder_convs: int = 1,
        add: Literal["before", "after"] = "after",
        norm: Norm = "batch",
        channels: tuple[int, ...] = CHANNELS,
        strides: tuple[Size3, ...] = STRIDES,
    ) -> None:
        super().__init__()
        _check(long, short, add, norm, decoder_convs, channels)
        _check_strides(strides)
        self.in_channels = in_channels
        self.total_stride = tuple(a * b * c for a, b, c in zip(*strides, strict=True))
        first, second, third, fourth = channels
        self.pools = nn.ModuleList(nn.MaxPool3d(stride) for stride in strides)
        self.encoder = nn.ModuleList(
            _Block(inside, outside, convs, norm, short)
            for inside, outside, convs in (
                (in_channels, first, 1), (first, second, 2), (second, third, 2), (third, fourth, 2)
            )
        )  # fmt: skip
        self.decoder = nn.ModuleList(
            _Up(inside, outside, stride, convs=decoder_convs, norm=norm, long=long, short=short, add=add)
            for inside, outside, stride in (
                (fourth, third, strides[2]),
                (third, second, strides[1]),
                (second, first, strides[0]),
            )
        )
        self.score = nn.Conv3d(first, out_channels, 1)
        self.auxiliary = nn.ModuleList(
            _head(widths, strides, out_channels) for widths in ((second, first), (third, second, first))
        ) if auxiliary else None  # fmt: skip

    def forward(self, images: Images) -> Outputs:
        """Compute the logits of a batch.

        Args:
            images: (b, in_channels, d, h, w).

        Returns:
            Logits (b, out_channels, d, h, w). In training mode, with auxiliary heads, a tuple: these logits, those from
            Conv2b and those from Conv3b.

        Raises:
            UserError: The channels do not fit, or `total_stride` does not divide a size.
        """
        check_input(images, self.in_channels, self.total_stride)
        features = [self.encoder[0](images)]
        for pool, block in zip(self.pools, self.encoder[1:], strict=True):
            features.append(block(pool(features[-1])))
        x = features[-1]
        for up, skipped in zip(self.decoder, features[-2::-1], strict=True):
            x = up(x, skipped)
        logits: Tensor = self.score(x)
        if self.auxiliary is None or not self.training:
            return logits
        return logits, self.auxiliary[0](features[1]), self.auxiliary[1](features[2])


class _Block(nn.Module):
    """Convolutions of one resolution, each with its norm and ReLU."""

    def __init__(self, inside: int, outside: int, convs: int, norm: Norm, short: Short) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(inside if n == 0 else outside, outside, norm) for n in range(convs))
        self.short = short == "sum"

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor | None = None
        for layer in self.layers:
            x = layer(x)
            first = x if first is None else first
        return x + first if self.short and len(self.layers) > 1 and first is not None else x


class _Up(nn.Module):
    """One step of the decoder: up-sample, join the encoder's features, convolve."""

    def __init__(
        self, inside: int, outside: int, stride: Size3, convs: int, norm: Norm, long: Long, short: Short, add: str
    ) -> None:
        super().__init__()
        self.up = nn.Sequential(_upsampling(inside, outside, stride), _norm(norm, outside), nn.ReLU())
        width = 2 * outside if long == "concat" else outside
        self.convs = nn.Sequential(*(_layer(width if n == 0 else outside, outside, norm) for n in range(convs)))
        self.long, self.add, self.short = long, add, short == "sum" and convs > 0

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        x = self.up(x)
        joined = x
        if self.long == "concat":
            joined = torch.cat([x, skipped], 1)
        elif self.long == "sum" and self.add == "before":
            joined = x + skipped
        out: Tensor = self.convs(joined)
        if self.short:
            out = out + x
        return out + skipped if self.long == "sum" and self.add == "after" else out


def preset(name: str) -> Callable[..., nn.Module]:
    """Return how to build a network of Table 1.

    Args:
        name: A name in `PRESETS`.

    Returns:
        A function build(in_channels, out_channels, **options), whose options take precedence over the preset's.
    """
    return partial(ResDSN, **PRESETS[name])


def _layer(inside: int, outside: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inside, outside, 3, padding=1), _norm(norm, outside), nn.ReLU())


def _norm(kind: Norm, channels: int) -> nn.Module:
    return nn.BatchNorm3d(channels) if kind == "batch" else nn.InstanceNorm3d(channels, affine=True)


def _head(widths: tuple[int, ...], strides: tuple[Size3, ...], classes: int) -> nn.Sequential:
    """Plain up-sampling to the images' resolution, then the classes."""
    steps = zip(pairwise(widths), reversed(strides[: len(widths) - 1]), strict=True)
    ups = (_upsampling(inside, outside, stride, bias=False) for (inside, outside), stride in steps)
    return nn.Sequential(*ups, nn.Conv3d(widths[-1], classes, 1))


def _upsampling(inside: int, outside: int, stride: Size3, bias: bool = True) -> nn.ConvTranspose3d:
    i, j, k = (_KERNELS[step] for step in stride)
    return nn.ConvTranspose3d(inside, outside, (i, j, k), stride, 1, bias=bias)


def _check_strides(strides: tuple[Size3, ...]) -> None:
    if len(strides) != 3 or any(step not in _KERNELS for stride in strides for step in stride):
        raise UserError(f"strides must be three, of 1 or 2 per axis, got {strides}")


def _check(long: str, short: str, add: str, norm: str, decoder_convs: int, channels: tuple[int, ...]) -> None:
    legal = {"long": (long, ("sum", "concat", "none")), "short": (short, ("sum", "none")),
             "add": (add, ("before", "after")), "norm": (norm, ("batch", "instance"))}  # fmt: skip
    for name, (value, values) in legal.items():
        if value not in values:
            raise UserError(f"{name} must be one of {', '.join(values)}, got {value!r}")
    if decoder_convs < (1 if long == "concat" else 0):
        raise UserError(
            f"decoder_convs must be at least {int(long == 'concat')} with long={long!r}, got {decoder_convs}"
        )
    if len(channels) != 4 or min(channels) < 1:
        raise UserError(f"channels must be four positive numbers, got {channels}")
