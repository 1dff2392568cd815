"""Depthwise 3x3x3 convolution against `torch.nn.functional.conv3d(groups=channels)`.

On a CPU in float32, ours on channels-last tensors as the networks keep them, the peer on contiguous ones as PyTorch
makes them. On CUDA both in bfloat16 and, as a floor, against a copy of as many bytes as must be moved.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.harness import Duel, Work
from voxward.nets.depthwise import depthwise_conv3d

CPU_SHAPES = ((2, 32, 48, 64, 48), (4, 64, 24, 32, 24))
CUDA_SHAPE = (2, 64, 96, 96, 96)
PEER = "F.conv3d(groups)"


def duels() -> Iterator[Duel]:
    """Forward, input gradient and full backward, each with its forward pass."""
    if torch.cuda.is_available():
        yield from _cuda_duels()
        return
    for shape in CPU_SHAPES:
        x = torch.randn(shape)
        last = x.contiguous(memory_format=torch.channels_last_3d)
        weight = torch.randn(shape[1], 1, 3, 3, 3)
        error = float((_ours(last, weight) - _peer(x, weight)).abs().max())
        size = "x".join(map(str, shape))
        for name, wanted in (("forward", ""), ("forward + input gradient", "x"), ("forward + full backward", "xw")):
            yield Duel(
                f"depthwise {name}, {size}, fp32", _pass(_ours, last, weight, wanted), _pass(_peer, x, weight, wanted),
                PEER, None, f"largest difference {error:.1e}",
            )  # fmt: skip


def _cuda_duels() -> Iterator[Duel]:
    x = torch.randn(CUDA_SHAPE, device="cuda", dtype=torch.bfloat16)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    weight = torch.randn(CUDA_SHAPE[1], 1, 3, 3, 3, device="cuda", dtype=torch.bfloat16)
    error = float((_ours(last, weight) - _peer(x, weight)).abs().max())
    size, other = "x".join(map(str, CUDA_SHAPE)), torch.empty_like(x)
    # A forward pass or an input gradient reads one tensor and writes one, as a copy does; a weight gradient reads two.
    for name, wanted in (("forward", ""), ("input gradient", "x"), ("weight gradient", "w")):
        ours, peer = (_alone(f, t, weight, wanted) for f, t in ((_ours, last), (_peer, x)))
        yield Duel(f"depthwise {name}, {size}, bf16", ours, peer, PEER, 3.0, f"largest difference {error:.1e}")
        yield Duel(f"depthwise {name}, {size}, bf16, of the floor", ours, lambda: other.copy_(x), "a copy", 1 / 1.5)


def _ours(x: Tensor, weight: Tensor) -> Tensor:
    return depthwise_conv3d(x, weight)


def _peer(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv3d(x, weight, padding=1, groups=x.shape[1])


def _pass(convolve: object, x: Tensor, weight: Tensor, wanted: str) -> Work:
    """A forward pass and the gradients of x ("x") and of the weight ("w")."""
    assert callable(convolve)
    gradient = torch.randn_like(x)

    def work() -> None:
        leaves = {"x": x.detach(), "w": weight.detach()}
        for name in wanted:
            leaves[name].requires_grad_()
        out = convolve(leaves["x"], leaves["w"])
        if wanted:
            torch.autograd.grad(out, [leaves[name] for name in wanted], gradient)

    return work


def _alone(convolve: object, x: Tensor, weight: Tensor, wanted: str) -> Work:
    """One gradient without its forward pass, or the forward pass alone."""
    assert callable(convolve)
    if not wanted:
        return _pass(convolve, x, weight, "")
    leaf = {"x": x, "w": weight}[wanted].detach().requires_grad_()
    out = convolve(leaf, weight) if wanted == "x" else convolve(x, leaf)
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, leaf, gradient, retain_graph=True)
