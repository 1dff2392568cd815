"""AutoDeepLab, one of the 2D networks that MS-NAS compares with, as its authors found it on Cityscapes.

Source: Liu, Chen, Schroff, Adam, Hua, Yuille, Fei-Fei: Auto-DeepLab: Hierarchical Neural Architecture Search for
Semantic Image Segmentation, CVPR 2019. Stem, widths, pyramid and decoder are those of section 5.2; the cell and the
path of figure 3 are those of the authors' release, tensorflow/models, research/deeplab. With 3 channels and 19 classes
it has the parameters of the paper's table 2: 10.15, 21.62 and 44.42 M for 20, 32 and 48 filters. No code was taken
over.

The public repository NoamRosenberg/autodeeplab differs: its first cell already goes down, its atrous convolutions are
depthwise-separable (about 9.9 M for 32 filters), and its last block reads the third one where this one reads the
second, with its two operations the other way round. The paper leaves open the atrous rates of the final network's
pyramid. Ours are that repository's 6, 12, 18, which DeepLabv3 has for maps of 33 x 33; a slice of 256 x 256 gives a map
of 32 x 32 (with 12, 24, 36 the outer taps of the last would all lie outside). Dropout and the scheduled drop path are
left out, because they are ways of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.nets.inputs import check_input
from voxward.nets.slicewise import Slicewise

Step = tuple[int, int]

# Two operations per block, each with its input: 0 is the cell before the previous one, 1 the previous cell, and from 2
# on they are the cell's own blocks.
_CELL = (
    (("atrous5", 0), ("separable3", 1)),
    (("separable3", 0), ("atrous3", 1)),
    (("separable3", 3), ("separable3", 0)),
    (("separable5", 4), ("separable5", 2)),
    (("separable5", 3), ("atrous5", 5)),
)
_PATH = (0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1)  # the level of each cell's output, each half as fine as the one before
_LOW = 2  # the cell whose output the decoder reads as well
_STEM = 64  # channels; those of the other layers outside of the cells follow from it
_STEM_STEPS, _STEPS = 2, 5
RATES = (6, 12, 18)


class AutoDeepLab(nn.Module):
    """AutoDeepLab for slices.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per pixel.
        steps: Strides along the slice's two axes: two of the stem, then one from each level to the next coarser one.
        filters: Channels of a block at the finest level, doubled at each coarser one.
        rates: Dilations of the pyramid's atrous convolutions.
        stem: Channels of the stem; the pyramid has 4 times as many, and the decoder's projection 3/4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        steps: Sequence[Step] = ((2, 2),) * _STEPS,
        filters: int = 20,
        rates: Sequence[int] = RATES,
        stem: int = _STEM,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.total_stride = tuple(math.prod(step) for step in zip(*steps, strict=True))
        pyramid, projected = 4 * stem, 3 * stem // 4
        self.stem = nn.ModuleList(
            (
                nn.Sequential(*_conv_norm(in_channels, stem, 3, steps[0]), nn.ReLU(), *_conv_norm(stem, stem, 3)),
                nn.Sequential(nn.ReLU(), *_conv_norm(stem, 2 * stem, 3, steps[1])),
            )
        )
        cells, widths, last = [], [stem, 2 * stem], 0
        for level in _PATH:
            step = steps[_STEM_STEPS + last] if level > last else None
            up = steps[_STEM_STEPS + level] if level < last else (1, 1)
            cells.append(_Cell((widths[-2], widths[-1]), filters << level, step, up))
            widths.append(len(_CELL) * (filters << level))
            last = level
        self.cells = nn.ModuleList(cells)
        self.pyramid = _Pyramid(widths[-1], pyramid, rates)
        self.low = nn.Sequential(*_conv_norm(len(_CELL) * filters, projected, 1), nn.ReLU())
        self.decoder = nn.Sequential(
            *_conv_norm(pyramid + projected, pyramid, 3), nn.ReLU(),
            *_conv_norm(pyramid, pyramid, 3), nn.ReLU(),
            nn.Conv2d(pyramid, out_channels, 1),
        )  # fmt: skip

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
        before = self.stem[0](images)
        x: Tensor = self.stem[1](before)
        low = x
        for n, cell in enumerate(self.cells):
            before, x = x, cell(before, x)
            low = x if n == _LOW else low
        deep = _resized(self.pyramid(torch.relu(x)), low.shape[2:])
        logits: Tensor = self.decoder(torch.cat([deep, self.low(low)], 1))
        return _resized(logits, images.shape[2:])


class _Cell(nn.Module):
    """(before, previous) -> the concatenated blocks at the size of `previous` divided by `step` and times `up`.

    widths: channels of the two inputs. step: None if the cell does not lower the resolution.
    """

    def __init__(self, widths: tuple[int, int], filters: int, step: Step | None, up: Step) -> None:
        super().__init__()
        self.up = up
        self.entries = nn.ModuleList(nn.Sequential(nn.ReLU(), *_conv_norm(width, filters, 1)) for width in widths)
        self.operations = nn.ModuleList(
            _operation(name, filters, step if given < 2 else None) for block in _CELL for name, given in block
        )

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        """Two (b, width, h, w), each with its own width and size, -> (b, blocks * filters, h, w)."""
        size = [length * step for length, step in zip(previous.shape[2:], self.up, strict=True)]
        states = [entry(_resized(x, size)) for entry, x in zip(self.entries, (before, previous), strict=True)]
        operations = iter(self.operations)
        for block in _CELL:
            first, second = (next(operations)(states[given]) for _, given in block)
            states.append(first + second)
        return torch.cat(states[2:], 1)


class _Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: a 1 x 1 convolution, 3 x 3 ones at several rates, and the image's mean."""

    def __init__(self, before: int, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Sequential(*_conv_norm(before, channels, 1), nn.ReLU())])
        self.branches.extend(
            nn.Sequential(*_conv_norm(before, channels, 3, dilation=rate), nn.ReLU()) for rate in rates
        )
        self.pooled = nn.Conv2d(before, channels, 1, bias=False)
        self.pooled_norm = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.merge = nn.Sequential(*_conv_norm((2 + len(rates)) * channels, channels, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(b, before, h, w) -> (b, channels, h, w)."""
        # Expanded before the norm, because a batch norm refuses the single value per channel that one image has.
        mean = self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        out: Tensor = self.merge(torch.cat([*(branch(x) for branch in self.branches), self.pooled_norm(mean)], 1))
        return out


class _Shrink(nn.Module):
    """Bilinear down-sampling by a whole factor per axis."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h / step, w / step)."""
        return _resized(x, [length // step for length, step in zip(x.shape[2:], self.step, strict=True)])


def _operation(name: str, channels: int, step: Step | None) -> nn.Module:
    """An operation of a cell; step: the factor by which it lowers the resolution, None for 1."""
    kernel = int(name[-1])
    if name.startswith("atrous"):
        if step is None:
            return nn.Sequential(nn.ReLU(), *_conv_norm(channels, channels, kernel, dilation=2))
        return nn.Sequential(nn.ReLU(), _Shrink(step), *_conv_norm(channels, channels, kernel))
    layers: list[nn.Module] = []
    for stride in (step or (1, 1), (1, 1)):
        layers += [
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False),
            *_conv_norm(channels, channels, 1),
        ]
    return nn.Sequential(*layers)


def _conv_norm(before: int, after: int, kernel: int, stride: Step = (1, 1), dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [nn.Conv2d(before, after, kernel, stride, padding, dilation, bias=False), nn.BatchNorm2d(after)]


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resampling to (h, w). Sizes are whole multiples of each other, so corners need not be aligned."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def autodeeplab(
    in_channels: int,
    out_channels: int,
    strides: Sequence[Sequence[int]] = ((2, 2, 1),) * _STEPS,
    filters: int = 20,
    rates: Sequence[int] = RATES,
    stem: int = _STEM,
) -> nn.Module:
    """Create AutoDeepLab for volumes, which it takes slice by slice across the last axis.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        strides: Strides along the volume's three axes, the finest first: two of the stem and three between the four
            levels. If there are fewer, strides of 1 are put in front. The third number of each is 1.
        filters: Channels of a block at the finest level (published: 20, 32, 48).
        rates: Dilations of the pyramid's atrous convolutions, in pixels of the second level.
        stem: Channels of the stem, a multiple of 4 (published: 64); pyramid and decoder have 4 times as many. A network
            much narrower than the published ones needs a narrower stem, too.

    Returns:
        A network from (b, in_channels, d, h, w) to logits (b, out_channels, d, h, w).

    Raises:
        UserError: An option is out of range.
    """
    if len(strides) > _STEPS or any(len(step) != 3 or min(step) < 1 or step[2] != 1 for step in strides):
        raise UserError(f"strides must be at most {_STEPS} steps (a, b, 1) of whole numbers from 1 up, got {strides}")
    if filters < 1:
        raise UserError(f"filters must be at least 1, got {filters}")
    if not rates or min(rates) < 1:
        raise UserError(f"rates must be whole numbers from 1 up, and at least one of them, got {rates}")
    if stem < 4 or stem % 4:
        raise UserError(f"stem must be a multiple of 4 from 4 up, got {stem}")
    steps = ((1, 1),) * (_STEPS - len(strides)) + tuple((step[0], step[1]) for step in strides)
    return Slicewise(AutoDeepLab(in_channels, out_channels, steps, filters, rates, stem))
