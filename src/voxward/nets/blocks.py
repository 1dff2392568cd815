"""Building blocks that work on channels-last volumes without layout copies.

In memory order a channels-last volume is a matrix (voxels, channels). A 1x1x1 convolution and the sums of an instance
norm are matrix products on it, which is several times faster on a CPU than PyTorch's general routines.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from voxward.core.devices import kind_of
from voxward.core.types import Size3
from voxward.nets.depthwise import DepthwiseConv3d


class _InstanceNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        if not (x.is_contiguous() or _channels_last(x)):
            x = x.contiguous()
        out, mean, rstd = _normalised(x, weight, bias, eps) if _sums_badly(x) else _group_norm(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, rstd = ctx.saved_tensors
        voxels = x[0, 0].numel()
        rows, g = _matrix(x), _matrix(gradients[0])  # (b, n, c)
        accumulate = torch.promote_types(x.dtype, torch.float32)
        mean, rstd, scale = mean.to(accumulate), rstd.to(accumulate), weight.to(accumulate)
        # PyTorch sums bfloat16 in float32 and rounds the result; asking for a float32 result would copy the input.
        total = g.sum(1).to(accumulate)
        projected = ((g * rows).sum(1).to(accumulate) - mean * total) * rstd  # gradient times normalised value, summed
        slope = rstd * scale
        along = slope * rstd * projected / voxels
        offset = along * mean - slope * total / voxels
        out = torch.addcmul(offset[:, None].to(x.dtype), g, slope[:, None].to(x.dtype))
        out.addcmul_(rows, -along[:, None].to(x.dtype))
        return _volume(out, x), projected.sum(0).to(weight.dtype), total.sum(0).to(weight.dtype), None


def _sums_badly(x: Tensor) -> bool:
    """Whether PyTorch's group norm would be less exact than the numbers are.

    On a CPU (PyTorch 2.13) it adds the values of channels-last volumes one after the other, which in float32 leaves
    errors that grow with the volume (tests/nets/test_blocks.py); those of contiguous volumes it adds in blocks.
    """
    return _channels_last(x) and not x.is_contiguous() and x.dtype in (torch.float32, torch.float64)


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last_3d)


def _group_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised volume, and the mean and the reciprocal deviation (b, c)."""
    batch, channels = x.shape[:2]
    return torch.native_group_norm(x, weight, bias, batch, channels, x[0, 0].numel(), channels, eps=eps)


def _normalised(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same by sums of sums, of the values and then of their squared distances from the mean."""
    out = torch.empty_like(x)  # no view of it is returned, or what follows could not change it in place
    rows, written = _matrix(x), _matrix(out)
    mean = rows.mean(1)
    torch.sub(rows, mean[:, None], out=written)
    rstd = (written.square_().mean(1) + eps).rsqrt()
    # The mean is subtracted before the scaling, or what is left of a large mean would be scaled.
    torch.sub(rows, mean[:, None], out=written)
    torch.addcmul(bias, written, (rstd * weight)[:, None], out=written)
    return out, mean, rstd


def _plain(x: Tensor) -> bool:
    """Whether PyTorch's own operators are used: on a GPU, and in a file for other programs, which know only these."""
    return not kind_of(x).host or torch.compiler.is_exporting()


def _matrix(x: Tensor) -> Tensor:
    """(b, c, d, h, w) -> (b, n, c); a view where x is channels-last."""
    return x.permute(0, 2, 3, 4, 1).reshape(x.shape[0], -1, x.shape[1])


def _volume(rows: Tensor, like: Tensor) -> Tensor:
    b, c, d, h, w = like.shape
    return rows.view(b, d, h, w, c).permute(0, 4, 1, 2, 3)


class InstanceNorm(nn.Module):
    """Instance normalisation with learned scale and shift, equal to `nn.InstanceNorm3d(channels, affine=True)`.

    Args:
        channels: Number of channels.
        eps: What is added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each sample of a volume (b, c, d, h, w)."""
        if _plain(x):
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        # The CPU's group norm takes bfloat16 with float32 parameters; float64 needs float64 parameters.
        out: Tensor = _InstanceNorm.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        return out


class PointwiseConv3d(nn.Conv3d):
    """A 1x1x1 convolution without bias.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride per axis.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Size3 = (1, 1, 1)) -> None:
        super().__init__(in_channels, out_channels, 1, stride=stride, bias=False)
        self.strides = stride

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (b, in, d, h, w) to (b, out, ceil(d/stride), ...)."""
        if _plain(x):
            return super().forward(x)
        i, j, k = self.strides
        # Sliced with the channels last, because the gradient of a slice is laid out in the order of the dimensions.
        kept = x.permute(0, 2, 3, 4, 1)[:, ::i, ::j, ::k]
        return F.linear(kept, self.weight.flatten(1)).permute(0, 4, 1, 2, 3)


class SeparableConv3d(nn.Sequential):
    """A depthwise 3x3x3 convolution, which carries the stride, then a pointwise 1x1x1 one; without biases.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride per axis.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Size3 = (1, 1, 1)) -> None:
        super().__init__(DepthwiseConv3d(in_channels, stride), PointwiseConv3d(in_channels, out_channels))


class Upsample(nn.Module):
    """Trilinear up-sampling by a whole factor per axis, with aligned corners.

    Args:
        factor: Factor per axis.
    """

    def __init__(self, factor: Size3) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Resample (b, c, d, h, w) to (b, c, d * factor, ...)."""
        if _plain(x):
            scale = tuple(float(f) for f in self.factor)
            return F.interpolate(x, scale_factor=scale, mode="trilinear", align_corners=True)
        x = x.permute(0, 2, 3, 4, 1)
        for axis in (3, 2, 1):  # the last first, while the volume is small
            if self.factor[axis - 1] > 1:
                length = x.shape[axis]
                x = _along(x, _linear_matrix(length, length * self.factor[axis - 1]).to(x.dtype), axis)
        return x.permute(0, 4, 1, 2, 3)


def _along(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Apply `matrix` (out, in) along one axis of the contiguous x (b, d, h, w, c)."""
    shape = list(x.shape)
    rows = x.reshape(-1, shape[axis], int(torch.tensor(shape[axis + 1 :]).prod()))
    shape[axis] = matrix.shape[0]
    return torch.matmul(matrix, rows).view(shape)


@lru_cache(maxsize=64)
def _linear_matrix(length: int, out: int) -> Tensor:
    """The (out, length) matrix of linear interpolation with aligned corners, as F.interpolate has it."""
    identity = torch.eye(length, dtype=torch.float64)[None]
    return F.interpolate(identity, size=out, mode="linear", align_corners=True)[0].T.contiguous()
