"""Padding as ONNX counts it: the begins of all axes, then the ends, or sizes that follow from the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from voxward.core.errors import UserError
from voxward.nets.onnx.uncovered import Uncovered

Pads = list[tuple[int, int]]
_AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
# More numbers than a window of any network has.
_LARGEST = 1 << 29


def check_auto_pad(auto_pad: str) -> None:
    """Refuse an unknown rule for padding."""
    if auto_pad not in _AUTO:
        raise Uncovered(f"auto_pad {auto_pad!r} is not one of {', '.join(_AUTO)}")


def bounded(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return sizes, before memory is taken for them.

    Args:
        sizes: The sizes of a result.

    Raises:
        UserError: They are negative, or too large for any network.
    """
    count = 1
    for size in sizes:
        count *= size
        if size < 0 or count > _LARGEST:
            raise UserError(f"a result would have the sizes {list(sizes)}")
    return tuple(sizes)


def each_axis(values: Sequence[int], axes: int, otherwise: int = 1) -> list[int]:
    """Return one number for every spatial axis.

    Args:
        values: The attribute; empty where it is left out.
        axes: How many spatial axes there are.
        otherwise: What is meant where it is left out.
    """
    return list(values) if values else [otherwise] * axes


def pairs(pads: Sequence[int], axes: int) -> Pads:
    """Return (begin, end) of every axis.

    Args:
        pads: All begins, then all ends; empty for none.
        axes: How many axes there are.
    """
    return list(zip(pads[:axes], pads[axes:], strict=True)) if pads else [(0, 0)] * axes


def window_pads(
    auto_pad: str, pads: Sequence[int], sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> Pads:
    """Return the padding of a convolution or pooling.

    Args:
        auto_pad: The rule; `NOTSET` for the given pads.
        pads: The attribute pads.
        sizes: The spatial sizes of the image.
        reach: The voxels from the first to the last that a kernel reads, along every axis.
        strides: The steps of the kernel.
    """
    if auto_pad == "NOTSET":
        return pairs(pads, len(sizes))
    if auto_pad == "VALID":
        return [(0, 0)] * len(sizes)
    found = []
    for size, each, stride in zip(sizes, reach, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + each - size, 0)
        found.append(shared(total, auto_pad))
    return found


def shared(total: int, auto_pad: str) -> tuple[int, int]:
    """Share padding between begin and end; an odd one goes to the end for `SAME_UPPER`, else to the begin."""
    less, more = total // 2, total - total // 2
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


def flat(pads: Pads) -> list[int]:
    """Return padding in the order of torch's `pad`: the last axis first."""
    return [number for pair in reversed(pads) for number in pair]


def constant_pad(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad, or crop where a pad is negative, the last axes of a tensor.

    Args:
        x: The tensor.
        pads: (begin, end) for each of the last axes.
        value: What the new voxels hold.
    """
    if not any(map(any, pads)):
        return x
    ahead = x.ndim - len(pads)
    bounded([*x.shape[:ahead], *(n + sum(pair) for n, pair in zip(x.shape[ahead:], pads, strict=True))])
    return F.pad(x, flat(pads), value=value)


def _reflected(size: int, begin: int, end: int) -> Tensor:
    if max(begin, end) > size - 1:
        raise UserError(f"an axis of {size} voxels cannot be mirrored by {max(begin, end)} voxels")
    places = torch.arange(-begin, size + end).abs()
    return torch.where(places > size - 1, 2 * (size - 1) - places, places)


def _repeated(size: int, begin: int, end: int) -> Tensor:
    return torch.arange(-begin, size + end).clamp(0, size - 1)


def _wrapped(size: int, begin: int, end: int) -> Tensor:
    return torch.arange(-begin, size + end) % size


_PLACES = {"reflect": _reflected, "edge": _repeated, "wrap": _wrapped}
MODES = ("constant", *_PLACES)


def place_pad(x: Tensor, pads: Pads, mode: str) -> Tensor:
    """Pad every axis of a tensor with its own voxels.

    Args:
        x: The tensor.
        pads: (begin, end) for every axis.
        mode: `reflect`, `edge` or `wrap`.
    """
    bounded([n + sum(pair) for n, pair in zip(x.shape, pads, strict=True)])
    for axis, (begin, end) in enumerate(pads):
        if begin or end:
            places = _PLACES[mode](x.shape[axis], max(begin, 0), max(end, 0))
            places = places[max(-begin, 0) : len(places) - max(-end, 0)]
            x = x.index_select(axis, places.to(x.device))
    return x
