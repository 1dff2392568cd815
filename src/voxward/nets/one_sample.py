"""3D convolutions of a single sample on a CPU, for which PyTorch chooses a slow routine: see results/speed/nnunet.md.

PyTorch (2.13) gives a float32 convolution to oneDNN only if there are several samples, or if channels times depth times
height are more than 20,480; otherwise it unfolds the volume. The inner levels of a U-Net are smaller than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from voxward.core.devices import kind_of
from voxward.core.types import Size3

# What PyTorch compares with: samples times channels times depth times height.
_FEW = 20480
_CONV3D = (F.conv3d, torch.ops.aten.conv3d.default)  # the second one is what exported networks call


def quick_on_one_sample(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a network's forward pass whose 3D convolutions of a single sample go to oneDNN.

    Args:
        forward: From images (n, c, d, h, w) to logits.
    """

    def quick(images: Tensor) -> Tensor:
        with OneSample():
            return forward(images)

    return quick


class OneSample(TorchFunctionMode):
    """A context in which 3D convolutions of a single sample go to oneDNN, in voxward's networks and in others'.

    Their gradients do, too, where they are convolutions again; there are no gradients of gradients. All other calls are
    PyTorch's own, and so are all on machines without oneDNN.

    Example:
        >>> with OneSample():
        ...     logits = network(window)
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, or replace a convolution of a single sample."""
        kwargs = kwargs or {}
        if function in _CONV3D and (given := _given(*args, **kwargs)) is not None:
            return _Convolution.apply(*given)  # type: ignore[no-untyped-call]
        return function(*args, **kwargs)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size3, padding: Size3, dilation: Size3
    ) -> Tensor:
        # An attack asks for no gradient of the weights, and then the input need not be kept.
        kept = x if any(ctx.needs_input_grad[1:3]) or not _mirrors(weight, stride, padding, dilation) else None
        ctx.save_for_backward(kept, weight)
        ctx.steps, ctx.bias = (stride, padding, dilation), None if bias is None else bias.shape
        return _onednn(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (x, weight), (gradient,) = ctx.saved_tensors, gradients
        stride, padding, dilation = ctx.steps
        asked = [*ctx.needs_input_grad[:2], ctx.bias is not None and ctx.needs_input_grad[2]]
        found: list[Tensor | None] = [None, None, None]
        if asked[0] and _mirrors(weight, *ctx.steps):
            found[0], asked[0] = _transposed(gradient, weight, padding), False
        if any(asked):
            rest = torch.ops.aten.convolution_backward(
                gradient, x, weight, ctx.bias, stride=stride, padding=padding, dilation=dilation, transposed=False,
                output_padding=(0, 0, 0), groups=1, output_mask=asked,
            )  # fmt: skip
            found = [one if one is not None else other for one, other in zip(found, rest, strict=True)]
        return *found, None, None, None


def _mirrors(weight: Tensor, stride: Size3, padding: Size3, dilation: Size3) -> bool:
    """Whether the gradient for the input is again a convolution, with the kernel turned round."""
    fits = all(n > pad for n, pad in zip(weight.shape[2:], padding, strict=True))
    return stride == (1, 1, 1) and dilation == (1, 1, 1) and fits


def _transposed(gradient: Tensor, weight: Tensor, padding: Size3) -> Tensor:
    around = [n - 1 - pad for n, pad in zip(weight.shape[2:], padding, strict=True)]
    turned = weight.flip(2, 3, 4).transpose(0, 1).contiguous(memory_format=torch.channels_last_3d)
    return _onednn(gradient, turned, None, (1, 1, 1), around, (1, 1, 1))


def _onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size3, padding: Sequence[int], dilation: Size3
) -> Tensor:
    return torch.mkldnn_convolution(x, weight, bias, padding=padding, stride=stride, dilation=dilation, groups=1)


def _given(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, Size3, Size3, Size3] | None:  # fmt: skip
    """The arguments of `conv3d` where PyTorch would take the slow routine, else None."""
    if not _slow(input, weight, groups) or isinstance(padding, str):
        return None
    return input, weight, bias, _three(stride), _three(padding), _three(dilation)


def _slow(x: Tensor, weight: Tensor, groups: int) -> bool:
    plain = x.ndim == 5 and groups == 1 and kind_of(x).host and x.dtype == weight.dtype == torch.float32
    if not plain or torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting() or _transformed():
        return False
    few = len(x) == 1 and x.shape[1] * x.shape[2] * x.shape[3] <= _FEW
    large, points = min(weight.shape[3:]) > 3, max(weight.shape[3:]) == 1
    return few and not large and not points and _has_onednn()


def _transformed() -> bool:
    """Whether a transform such as `torch.func.vmap` is at work, for which `_Convolution` has no rule."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _has_onednn() -> bool:
    found = torch.backends.mkldnn
    return bool(found.is_available() and found.enabled)  # type: ignore[no-untyped-call]


def _three(value: int | Sequence[int]) -> Size3:
    i, j, k = (value,) * 3 if isinstance(value, int) else value if len(value) == 3 else (value[0],) * 3
    return i, j, k
