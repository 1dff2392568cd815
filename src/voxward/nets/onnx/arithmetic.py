"""ONNX's arithmetic, activations, sums over axes and normalisations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from voxward.nets.onnx.uncovered import Uncovered

Run = Callable[..., Any]


def plain(function: Run) -> Callable[[], Run]:
    """Return an operator without attributes.

    Args:
        function: What it computes from its inputs.
    """
    return lambda: function


def pairwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Run]:
    """Return an operator of two tensors that are broadcast, one of which may be a number of the graph on the CPU."""

    def run(a: Tensor, b: Tensor) -> Tensor:
        return function(*together(a, b))

    return lambda: run


def together(*tensors: Tensor) -> list[Tensor]:
    """Return tensors on the device of those that are not on the CPU, if there are any."""
    devices = [tensor.device for tensor in tensors if tensor.device.type != "cpu"]
    return [tensor.to(devices[0]) for tensor in tensors] if devices else list(tensors)


def many(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Run]:
    """Return an operator that joins any number of tensors, two at a time."""

    def run(*tensors: Tensor) -> Tensor:
        return reduce(function, together(*tensors))

    return lambda: run


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Div: whole numbers are cut off towards zero."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def power(a: Tensor, b: Tensor) -> Tensor:
    """Pow, whose result has the type of the base."""
    return torch.pow(a, b).to(a.dtype)


def modulo(*, fmod: int = 0) -> Run:
    """Mod: the sign is the divisor's, or the dividend's with fmod."""
    function = torch.fmod if fmod else torch.remainder
    return lambda a, b: function(*together(a, b))


def mean_of(*tensors: Tensor) -> Tensor:
    """Mean of any number of tensors."""
    summed: Tensor = reduce(torch.add, together(*tensors))
    return summed / len(tensors)


def leaky_relu(*, alpha: float = 0.01) -> Run:
    """LeakyRelu."""
    return lambda x: F.leaky_relu(x, alpha)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PRelu, with a slope for all, for each channel, or of any shape that can be broadcast."""
    of_channels = slope.ndim == x.ndim - 1 and slope.shape[0] == slope.numel() == x.shape[1]
    if slope.numel() == 1 or of_channels:
        return F.prelu(x, slope.flatten())
    return torch.where(x > 0, x, slope * x)


def elu(*, alpha: float = 1.0) -> Run:
    """Elu."""
    return lambda x: F.elu(x, alpha)


def celu(*, alpha: float = 1.0) -> Run:
    """Celu."""
    return lambda x: F.celu(x, alpha)


def selu(*, alpha: float = 1.6732632, gamma: float = 1.0507010) -> Run:
    """Selu."""
    return lambda x: gamma * F.elu(x, alpha)


def thresholded_relu(*, alpha: float = 1.0) -> Run:
    """ThresholdedRelu."""
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


def hard_sigmoid(*, alpha: float = 0.2, beta: float = 0.5) -> Run:
    """HardSigmoid."""
    return lambda x: (alpha * x + beta).clamp(0, 1)


def hard_swish(x: Tensor) -> Tensor:
    """HardSwish."""
    return x * (x / 6 + 0.5).clamp(0, 1)


def swish(*, alpha: float = 1.0) -> Run:
    """Swish."""
    return lambda x: x * torch.sigmoid(alpha * x)


def gelu(*, approximate: str = "none") -> Run:
    """Gelu."""
    if approximate not in ("none", "tanh"):
        raise Uncovered(f"approximate {approximate!r} is not one of none, tanh")
    return lambda x: F.gelu(x, approximate=approximate)


def clip(*, min: float | None = None, max: float | None = None) -> Run:
    """Clip, whose bounds are attributes before opset 11 and inputs since."""

    def run(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        for bound, given, function in ((min, low, torch.clamp_min), (max, high, torch.clamp_max)):
            if given is not None:
                x = function(x, given.to(x))
            elif bound is not None:
                x = function(x, bound)
        return x

    return run


def _over_axis(function: Callable[..., Tensor]) -> Callable[..., Run]:
    def make(*, axis: int | None = None, opset: int) -> Run:
        def run(x: Tensor) -> Tensor:
            if opset >= 13:
                return function(x, -1 if axis is None else axis)
            # Until opset 12 all axes from this one on were taken as one.
            first = (1 if axis is None else axis) % x.ndim
            return function(x.flatten(first), first).reshape(x.shape)

        return run

    return make


softmax, log_softmax = _over_axis(torch.softmax), _over_axis(torch.log_softmax)


def over_axes(function: Callable[..., Tensor]) -> Callable[..., Run]:
    """Return an operator that sums up axes, which are an attribute in older opsets and an input in newer ones.

    Args:
        function: Called with the tensor, the axes, and `keepdim`.
    """

    def make(*, axes: Sequence[int] | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Run:
        def run(x: Tensor, given: Tensor | None = None) -> Tensor:
            chosen = list(axes or ()) if given is None else [int(axis) for axis in given.tolist()]
            if not chosen and noop_with_empty_axes:
                return x
            return function(x, chosen or list(range(x.ndim)), keepdim=bool(keepdims))

        return run

    return make


def reduce_l1(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    """ReduceL1."""
    return x.abs().sum(axes, keepdim=keepdim)


def reduce_l2(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    """ReduceL2."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=keepdim)
    return norm


def reduce_sum_square(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    """ReduceSumSquare."""
    return x.square().sum(axes, keepdim=keepdim)


def reduce_product(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    """ReduceProd."""
    for axis in axes:
        x = x.prod(axis, keepdim=True)
    return x if keepdim else x.squeeze(axes)


def reduce_mean(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    """ReduceMean, of whole numbers, too."""
    if x.is_floating_point():
        return x.mean(axes, keepdim=keepdim)
    return x.sum(axes, keepdim=keepdim) // _count(x, axes)


def _count(x: Tensor, axes: Sequence[int]) -> int:
    return int(torch.tensor([x.shape[axis] for axis in axes]).prod())


def cumulative_sum(*, exclusive: int = 0, reverse: int = 0) -> Run:
    """CumSum."""
    if exclusive or reverse:
        raise Uncovered("exclusive and reverse are not covered")
    return lambda x, axis: x.cumsum(int(axis))


def gemm(*, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0) -> Run:  # noqa: N803 - ONNX's
    """Gemm."""

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = torch.mul((a.T if transA else a) @ (b.T if transB else b), alpha)
        return product if c is None else torch.add(product, c, alpha=beta)

    return run


def einsum(*, equation: str) -> Run:
    """Einsum."""
    return lambda *tensors: torch.einsum(equation, *together(*tensors))


def instance_normalization(*, epsilon: float = 1e-5) -> Run:
    """InstanceNormalization."""

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        # torch.nn.functional refuses a single voxel, whose normalised value is its bias.
        return torch.instance_norm(
            x, scale, bias, None, None, use_input_stats=True, momentum=0.0, eps=epsilon, cudnn_enabled=True
        )

    return run


def batch_normalization(*, epsilon: float = 1e-5, momentum: float = 0.9, training_mode: int = 0) -> Run:
    """BatchNormalization with the statistics of the training."""
    if training_mode:
        raise Uncovered("training_mode 1 is not covered: export the network in evaluation mode")
    return lambda x, scale, bias, mean, variance: F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def group_normalization(*, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1) -> Run:
    """GroupNormalization, of opset 21 and above; ONNX's checker refuses the withdrawn one of opset 18."""
    return lambda x, scale, bias: F.group_norm(x, num_groups, scale, bias, epsilon)


def layer_normalization(*, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Run:
    """LayerNormalization."""

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        found = F.layer_norm(x, x.shape[axis:], eps=epsilon) * scale
        return found if bias is None else found + bias

    return run
