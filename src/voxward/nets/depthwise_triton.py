"""Depthwise 3x3x3 convolution with stride 1 and padding 1 on CUDA, as Triton kernels; loaded only where they are used.

PyTorch's own routines for it are far from what the memory allows. Here a program owns a tile of one channel's planes
and walks along the first axis: each plane is loaded once per in-plane tap and serves all three outputs that it touches.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_FEW = 16
_MANY = 64


def _configs() -> list[Any]:
    """Tiles of a plane, and how many planes a program walks. The best is measured once per volume size."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return [triton.Config({"tile": 128, "planes": 4})]
    return [
        triton.Config({"tile": tile, "planes": planes}, num_warps=warps)
        for tile, warps in ((256, 4), (512, 4), (1024, 4), (1024, 8))
        for planes in (_FEW, _MANY)
    ]


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve each channel with its own kernel, accumulated in float32.

    The input gradient is the same convolution with the kernel flipped along its three axes.

    Args:
        x: (b, c, d, h, w), float32 or half precision.
        weight: Kernels (c, 1, 3, 3, 3).

    Returns:
        The convolved volume, of the shape and type of `x`.
    """
    x, weight = x.contiguous(), weight.contiguous()
    out = torch.empty_like(x)
    b, c, d, h, w = x.shape

    def grid(meta: dict[str, int]) -> tuple[int, int, int]:
        return b * c, triton.cdiv(h * w, meta["tile"]), triton.cdiv(d, meta["planes"])

    _convolve[grid](x, weight, out, c, d, h, w)
    return out


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Compute the gradient with respect to the kernels; every run adds up in the same order.

    Args:
        gradient: The gradient with respect to the output (b, c, d, h, w).
        x: The input (b, c, d, h, w).

    Returns:
        The gradient (c, 1, 3, 3, 3), float32.
    """
    x, gradient = x.contiguous(), gradient.contiguous()
    b, c, d, h, w = x.shape
    # One row per tile and walk of the smallest configuration; larger ones leave rows at zero.
    tiles = triton.cdiv(h * w, min(config.kwargs["tile"] for config in _configs()))
    walks = triton.cdiv(d, min(config.kwargs["planes"] for config in _configs()))
    parts = torch.zeros(walks * tiles, b, c, 27, device=x.device, dtype=torch.float32)

    def grid(meta: dict[str, int]) -> tuple[int, int, int]:
        return b * c, triton.cdiv(h * w, meta["tile"]), 3 * triton.cdiv(d, meta["planes"])

    _weight_gradient[grid](x, gradient, parts, d, h, w)
    return parts.sum((0, 1)).view(c, 1, 3, 3, 3)


@triton.autotune(configs=_configs(), key=["d", "h", "w"])
@triton.jit
def _convolve(x, weight, out, c, d, h, w, tile: tl.constexpr, planes: tl.constexpr):
    image = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * tile + tl.arange(0, tile)
    first = tl.program_id(2) * planes
    row, column = place // w, place % w
    kernel = weight + (image % c) * 27
    x += image * d * h * w
    out += image * d * h * w
    before = tl.zeros([tile], tl.float32)
    here = tl.zeros([tile], tl.float32)
    for z in range(first - 1, first + planes + 1):
        after = tl.zeros([tile], tl.float32)
        depth = tl.zeros([tile], tl.int32) + z
        for i in tl.static_range(3):
            for j in tl.static_range(3):
                up, left = row + i - 1, column + j - 1
                inside = (up >= 0) & (up < h) & (left >= 0) & (left < w) & (depth >= 0) & (depth < d)
                value = tl.load(x + z * h * w + up * w + left, mask=inside, other=0.0).to(tl.float32)
                # Plane z is the last of the three for output z - 1, the middle one for z, the first for z + 1.
                before += value * tl.load(kernel + 18 + 3 * i + j).to(tl.float32)
                here += value * tl.load(kernel + 9 + 3 * i + j).to(tl.float32)
                after += value * tl.load(kernel + 3 * i + j).to(tl.float32)
        ready = (place < h * w) & (depth > first) & (depth <= d)
        tl.store(out + (z - 1) * h * w + place, before.to(out.dtype.element_ty), mask=ready)
        before = here
        here = after


@triton.autotune(configs=_configs(), key=["d", "h", "w"], reset_to_zero=["parts"])
@triton.jit
def _weight_gradient(x, gradient, parts, d, h, w, tile: tl.constexpr, planes: tl.constexpr):
    image = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * tile + tl.arange(0, tile)
    walk, i = tl.program_id(2) // 3, tl.program_id(2) % 3
    first = walk * planes
    last = tl.minimum(first + planes, d)
    row, column = place // w, place % w
    up = row + i - 1
    x += image * d * h * w
    gradient += image * d * h * w
    zero = tl.zeros([tile], tl.float32)
    # One sum per slice of the kernel (a: 0, b: 1, c: 2) and column of it.
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    before = zero
    here = zero
    for z in range(first - 1, first + planes + 1):
        depth = tl.zeros([tile], tl.int32) + z
        ours = (place < h * w) & (depth + 1 >= first) & (depth + 1 < last)
        after = tl.load(gradient + (z + 1) * h * w + place, mask=ours, other=0.0).to(tl.float32)
        inside = (up >= 0) & (up < h) & (depth >= 0) & (depth < d) & (place < h * w)
        at = x + z * h * w + up * w + column
        v0 = tl.load(at - 1, mask=inside & (column > 0), other=0.0).to(tl.float32)
        v1 = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        v2 = tl.load(at + 1, mask=inside & (column + 1 < w), other=0.0).to(tl.float32)
        a0 += v0 * after
        a1 += v1 * after
        a2 += v2 * after
        b0 += v0 * here
        b1 += v1 * here
        b2 += v2 * here
        c0 += v0 * before
        c1 += v1 * before
        c2 += v2 * before
        before = here
        here = after
    slot = parts + ((walk * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + image) * 27 + 3 * i
    tl.store(slot, tl.sum(a0))
    tl.store(slot + 1, tl.sum(a1))
    tl.store(slot + 2, tl.sum(a2))
    tl.store(slot + 9, tl.sum(b0))
    tl.store(slot + 10, tl.sum(b1))
    tl.store(slot + 11, tl.sum(b2))
    tl.store(slot + 18, tl.sum(c0))
    tl.store(slot + 19, tl.sum(c1))
    tl.store(slot + 20, tl.sum(c2))
