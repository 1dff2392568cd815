"""Depthwise 3D convolution whose gradients are as fast as its forward pass.

PyTorch computes the input gradient of a depthwise convolution many times slower than the forward pass on a CPU. With
stride 1 that gradient is itself a depthwise convolution, with the flipped kernel, so the fast forward routine serves
both. The weight gradient is put together from 2D ones, one per slice of the kernel. On CUDA, Triton kernels do what
PyTorch does slowly there: 3x3x3 with stride and padding 1, if Triton is installed.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from voxward.core.devices import kind_of
from voxward.core.errors import UserError
from voxward.core.types import Images, Size3

_TRITON_TYPES = (torch.float32, torch.bfloat16, torch.float16)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Size3, padding: Size3) -> Tensor:
        # Without a weight gradient, as in an attack, x need not be kept; only with a stride PyTorch needs it.
        kept = x if ctx.needs_input_grad[1] or stride != (1, 1, 1) else None
        ctx.save_for_backward(kept, weight)
        ctx.stride, ctx.padding = stride, padding
        return _convolve(x, weight, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0]
        for_x = _input_gradient(gradient, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        for_weight = _weight_gradient(gradient, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, None, None


def depthwise_conv3d(x: Images, weight: Tensor, stride: Size3 = (1, 1, 1), padding: Size3 = (1, 1, 1)) -> Tensor:
    """Convolve each channel with its own kernel.

    The result equals `torch.nn.functional.conv3d(x, weight, stride=stride, padding=padding, groups=c)`; autocast is
    obeyed.

    Args:
        x: (b, c, d, h, w).
        weight: Kernels (c, 1, kd, kh, kw).
        stride: Stride per axis.
        padding: Zeros that are added on both sides of each axis.

    Raises:
        UserError: The kernels do not fit the channels.
    """
    if weight.ndim != 5 or weight.shape[:2] != (x.shape[1], 1):
        raise UserError(
            f"weight must be ({x.shape[1]}, 1, kd, kh, kw) for {x.shape[1]} channels, got {tuple(weight.shape)}"
        )
    if x.device.type != "meta" and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    out: Tensor = _Depthwise.apply(x, weight, stride, padding)  # type: ignore[no-untyped-call]
    return out


def _convolve(x: Tensor, weight: Tensor, stride: Size3, padding: Size3) -> Tensor:
    if _by_triton(x, weight, stride, padding):
        from voxward.nets import depthwise_triton

        return depthwise_triton.convolve(x, weight)
    return F.conv3d(x, weight, stride=stride, padding=padding, groups=x.shape[1])


def _input_gradient(gradient: Tensor, x: Tensor | None, weight: Tensor, stride: Size3, padding: Size3) -> Tensor:
    if stride == (1, 1, 1):
        i, j, k = (length - 1 - pad for length, pad in zip(weight.shape[2:], padding, strict=True))
        return _convolve(gradient, weight.flip(2, 3, 4), (1, 1, 1), (i, j, k))
    assert x is not None
    return _aten_gradient(gradient, x, weight, stride, padding, 0)


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: Size3, padding: Size3) -> Tensor:
    if _by_triton(x, weight, stride, padding):
        from voxward.nets import depthwise_triton

        return depthwise_triton.weight_gradient(gradient, x).to(weight.dtype)
    if not kind_of(x).host:
        return _aten_gradient(gradient, x, weight, stride, padding, 1)
    samples = [
        [_tap_gradient(g, sample, weight, stride, padding, tap) for tap in range(weight.shape[2])]
        for g, sample in zip(gradient, x, strict=True)
    ]
    return torch.stack([torch.stack(taps, 2) for taps in samples]).sum(0)


def _by_triton(x: Tensor, weight: Tensor, stride: Size3, padding: Size3) -> bool:
    """Whether the Triton kernels can do this convolution."""
    if x.device.type != "cuda" or x.dtype not in _TRITON_TYPES:
        return False
    return weight.shape[2:] == (3, 3, 3) and stride == padding == (1, 1, 1) and _has_triton()


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _tap_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: Size3, padding: Size3, tap: int) -> Tensor:
    """One sample's gradient of the kernel's slice `tap`: a 2D one over the slices that meet through it.

    PyTorch's 2D routine is two to three times as fast as its 3D one (and needs no float32 copies of bfloat16). Sample
    by sample, a range of slices is a batch of 2D images without a copy. gradient, x: (c, d, h, w).
    """
    step, *in_plane = stride
    shift = tap - padding[0]
    first = max(0, -(shift // step))
    last = min(gradient.shape[1], (x.shape[1] - 1 - shift) // step + 1)
    if first >= last:
        return torch.zeros_like(weight[:, :, 0])
    met = x[:, first * step + shift : (last - 1) * step + shift + 1 : step]
    gradients = torch.ops.aten.convolution_backward(
        gradient[:, first:last].transpose(0, 1), met.transpose(0, 1), weight[:, :, tap].contiguous(), None,
        in_plane, padding[1:], (1, 1),
        transposed=False, output_padding=(0, 0), groups=x.shape[0], output_mask=[False, True, False],
    )  # fmt: skip
    return cast(Tensor, gradients[1])


def _aten_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: Size3, padding: Size3, which: int) -> Tensor:
    """PyTorch's own gradient with respect to the input (which=0) or the weight (which=1)."""
    wanted = [which == 0, which == 1, False]
    gradients = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1, 1),
        transposed=False, output_padding=(0, 0, 0), groups=x.shape[1], output_mask=wanted,
    )  # fmt: skip
    return cast(Tensor, gradients[which])


class DepthwiseConv3d(nn.Conv3d):
    """A 3x3x3 depthwise convolution with padding 1, without bias.

    Args:
        channels: Number of channels.
        stride: Stride per axis.
    """

    def __init__(self, channels: int, stride: Size3 = (1, 1, 1)) -> None:
        super().__init__(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
        self.strides = stride

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (b, c, d, h, w) to (b, c, ceil(d/stride), ...)."""
        return depthwise_conv3d(x, self.weight, self.strides)
