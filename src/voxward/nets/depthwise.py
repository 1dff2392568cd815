"""Depthwise 3D convolution whose gradients are as fast as its forward pass.

PyTorch computes the input gradient of a depthwise convolution many times slower than the forward pass on a CPU. With
stride 1 it is itself a depthwise convolution, with the flipped kernel, so the fast forward routine serves both. The
weight gradient is summed in float32: PyTorch's bfloat16 routine is several times slower.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxward.core.types import Images, Size3


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Size3, padding: Size3) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(x, weight, stride=stride, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0]
        for_x = _input_gradient(gradient, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        for_weight = _weight_gradient(gradient, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, None, None


def depthwise_conv3d(x: Images, weight: Tensor, stride: Size3 = (1, 1, 1), padding: Size3 = (1, 1, 1)) -> Tensor:
    """Convolve each channel of `x` (b, c, d, h, w) with its own kernel `weight` (c, 1, kd, kh, kw).

    Equal to `torch.nn.functional.conv3d(x, weight, stride=stride, padding=padding, groups=c)`; honours autocast.
    """
    if weight.ndim != 5 or weight.shape[:2] != (x.shape[1], 1):
        raise ValueError(
            f"weight must be ({x.shape[1]}, 1, kd, kh, kw) for {x.shape[1]} channels, got {tuple(weight.shape)}"
        )
    if x.device.type != "meta" and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    out: Tensor = _Depthwise.apply(x, weight, stride, padding)  # type: ignore[no-untyped-call]
    return out


def _input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: Size3, padding: Size3) -> Tensor:
    kernel = weight.shape[2:]
    if stride == (1, 1, 1):
        mirrored = [k - 1 - p for k, p in zip(kernel, padding, strict=True)]
        return F.conv3d(gradient, weight.flip(2, 3, 4), padding=mirrored, groups=x.shape[1])
    return _aten_gradient(gradient, x, weight, stride, padding, 0)


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: Size3, padding: Size3) -> Tensor:
    if x.dtype is torch.bfloat16 and x.device.type == "cpu":
        exact = _aten_gradient(gradient.float(), x.float(), weight.float(), stride, padding, 1)
        return exact.to(weight.dtype)
    return _aten_gradient(gradient, x, weight, stride, padding, 1)


def _aten_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: Size3, padding: Size3, which: int) -> Tensor:
    """PyTorch's own gradient: of the input (0) or of the weight (1)."""
    wanted = [which == 0, which == 1, False]
    gradients = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1, 1), False, (0, 0, 0), x.shape[1], wanted
    )
    return cast(Tensor, gradients[which])


class DepthwiseConv3d(nn.Conv3d):
    """3x3x3 depthwise convolution without bias, padding 1."""

    def __init__(self, channels: int, stride: Size3 = (1, 1, 1)) -> None:
        super().__init__(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
        self.strides = stride

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, d, h, w) -> (b, c, ceil(d/stride), ...)."""
        return depthwise_conv3d(x, self.weight, self.strides)
