"""ONNX's convolutions, pooling and padding. Each function takes a node's attributes and returns what it computes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from voxward.nets.onnx.padding import (
    MODES,
    Pads,
    check_auto_pad,
    constant_pad,
    each_axis,
    pairs,
    place_pad,
    shared,
    window_pads,
)
from voxward.nets.onnx.uncovered import Uncovered

Run = Callable[..., Any]

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d,
}  # fmt: skip
_MAX: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _for_axes(table: dict[int, Callable[..., Tensor]], axes: int) -> Callable[..., Tensor]:
    if axes not in table:
        raise Uncovered(f"{axes} spatial axes are not covered")
    return table[axes]


def _reach(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]


def conv(
    *, kernel_shape: Sequence[int] = (), strides: Sequence[int] = (), pads: Sequence[int] = (),
    dilations: Sequence[int] = (), group: int = 1, auto_pad: str = "NOTSET",
) -> Run:  # fmt: skip
    """Conv."""
    check_auto_pad(auto_pad)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        axes = x.ndim - 2
        steps, spread = each_axis(strides, axes), each_axis(dilations, axes)
        found = window_pads(auto_pad, pads, x.shape[2:], _reach(weight.shape[2:], spread), steps)
        even = all(begin == end >= 0 for begin, end in found)
        padding = [begin for begin, _ in found] if even else [0] * axes
        padded = x if even else constant_pad(x, found)
        return _for_axes(_CONV, axes)(padded, weight, bias, steps, padding, spread, group)

    return run


def conv_transpose(
    *, kernel_shape: Sequence[int] = (), strides: Sequence[int] = (), pads: Sequence[int] = (),
    dilations: Sequence[int] = (), group: int = 1, auto_pad: str = "NOTSET", output_padding: Sequence[int] = (),
    output_shape: Sequence[int] = (),
) -> Run:  # fmt: skip
    """ConvTranspose."""
    check_auto_pad(auto_pad)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        axes = x.ndim - 2
        steps, spread = each_axis(strides, axes), each_axis(dilations, axes)
        more = each_axis(output_padding, axes, 0)
        reach = _reach(weight.shape[2:], spread)
        whole = [s * (n - 1) + r for s, n, r in zip(steps, x.shape[2:], reach, strict=True)]
        found = pairs(pads, axes)
        if output_shape or auto_pad.startswith("SAME"):
            sizes = output_shape[-axes:] or [n * s for n, s in zip(x.shape[2:], steps, strict=True)]
            totals = [w + m - size for w, m, size in zip(whole, more, sizes, strict=True)]
            found = [shared(max(total, 0), auto_pad) for total in totals]
            more = [m + max(-total, 0) for m, total in zip(more, totals, strict=True)]
        function = _for_axes(_TRANSPOSED, axes)
        if all(begin == end >= 0 for begin, end in found) and all(map(operator.lt, more, steps)):
            padding = [begin for begin, _ in found]
            return function(x, weight, bias, steps, padding, more, groups=group, dilation=spread)
        # What is beyond the kernels' reach holds the bias alone.
        grown = function(x, weight, None, steps, groups=group, dilation=spread)
        cut = [(-begin, m - end) for (begin, end), m in zip(found, more, strict=True)]
        grown = constant_pad(grown, cut)
        return grown if bias is None else grown + bias.view(-1, *[1] * axes)

    return run


def _pooled_pads(
    sizes: Sequence[int], found: Pads, reach: Sequence[int], strides: Sequence[int], ceil: bool
) -> tuple[Pads, Pads]:
    """The padding that a kernel counts, and what it needs beyond it to reach the last of its places."""
    beyond = []
    for n, (begin, end), r, s in zip(sizes, found, reach, strides, strict=True):
        over = n + begin + end - r
        last = -(-over // s) if ceil else over // s
        if ceil and last * s >= n + begin:
            last -= 1  # a kernel must not begin behind the image
        beyond.append((0, max(last * s - over, 0)))
    return found, beyond


def max_pool(
    *, kernel_shape: Sequence[int], strides: Sequence[int] = (), pads: Sequence[int] = (),
    dilations: Sequence[int] = (), ceil_mode: int = 0, auto_pad: str = "NOTSET", storage_order: int = 0,
) -> Run:  # fmt: skip
    """MaxPool."""
    check_auto_pad(auto_pad)

    def run(x: Tensor) -> Tensor:
        axes = len(kernel_shape)
        steps, spread = each_axis(strides, axes), each_axis(dilations, axes)
        reach = _reach(kernel_shape, spread)
        found = window_pads(auto_pad, pads, x.shape[2:], reach, steps)
        found, beyond = _pooled_pads(x.shape[2:], found, reach, steps, bool(ceil_mode))
        for each in (found, beyond):
            x = constant_pad(x, each, -torch.inf)
        return _for_axes(_MAX, axes)(x, list(kernel_shape), steps, 0, spread)

    return run


def average_pool(
    *, kernel_shape: Sequence[int], strides: Sequence[int] = (), pads: Sequence[int] = (),
    dilations: Sequence[int] = (), ceil_mode: int = 0, auto_pad: str = "NOTSET", count_include_pad: int = 0,
) -> Run:  # fmt: skip
    """AveragePool."""
    check_auto_pad(auto_pad)
    if any(each != 1 for each in dilations):
        raise Uncovered(f"dilations {tuple(dilations)} of an average are not covered")

    def run(x: Tensor) -> Tensor:
        axes = len(kernel_shape)
        steps = each_axis(strides, axes)
        found = window_pads(auto_pad, pads, x.shape[2:], kernel_shape, steps)
        found, beyond = _pooled_pads(x.shape[2:], found, kernel_shape, steps, bool(ceil_mode))
        mean = _for_axes(_MEAN, axes)
        counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        counted = constant_pad(counted, found, float(bool(count_include_pad)))
        for each in (found, beyond):
            x = constant_pad(x, each)
        share = mean(constant_pad(counted, beyond), list(kernel_shape), steps)
        return mean(x, list(kernel_shape), steps) / share

    return run


def global_average_pool() -> Run:
    """GlobalAveragePool."""
    return lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool() -> Run:
    """GlobalMaxPool."""
    return lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True)


def pad(*, mode: str = "constant", pads: Sequence[int] | None = None, value: float = 0.0) -> Run:
    """Pad."""
    if mode not in MODES:
        raise Uncovered(f"mode {mode!r} is not one of {', '.join(MODES)}")

    def run(x: Tensor, given: Tensor | None = None, fill: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        counts = [int(each) for each in (given.tolist() if given is not None else pads or ())]
        chosen = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes.tolist()]
        found = [(0, 0)] * x.ndim
        for axis, pair in zip(chosen, pairs(counts, len(chosen)), strict=True):
            found[axis] = pair
        if mode != "constant":
            return place_pad(x, found, mode)
        return constant_pad(x, found, value if fill is None else float(fill))

    return run
