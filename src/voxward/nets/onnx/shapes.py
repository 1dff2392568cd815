"""ONNX's operators that move numbers, and the arithmetic of sizes, which stays on the CPU in whole numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.nets.onnx.arithmetic import together
from voxward.nets.onnx.external import FLOATS
from voxward.nets.onnx.padding import bounded
from voxward.nets.onnx.uncovered import Uncovered

Run = Callable[..., Any]
# ONNX's codes of whole numbers, which are all computed in 64 bits.
_WHOLE, _BOOL = (2, 3, 4, 5, 6, 7, 12, 13), 9
_NARROW = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32}
_NARROW_BITS = {4: 16, 12: 32}


def whole(values: Tensor) -> list[int]:
    """Return the numbers of a tensor of whole numbers."""
    return [int(value) for value in values.flatten().tolist()]


def concat(*, axis: int) -> Run:
    """Concat."""
    return lambda *tensors: torch.cat(together(*tensors), axis)


def split(*, axis: int = 0, split: Sequence[int] = (), num_outputs: int | None = None, outputs: int) -> Run:
    """Split, into the sizes of an attribute, of an input, or into equal ones of which the last may be smaller."""

    def run(x: Tensor, given: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = list(split) if given is None else whole(given)
        if not sizes:
            each = -(-x.shape[axis] // outputs)
            sizes = [each] * (outputs - 1)
            sizes.append(x.shape[axis] - sum(sizes))
        return torch.split(x, sizes, axis)

    return run


def slice_(*, starts: Sequence[int] = (), ends: Sequence[int] = (), axes: Sequence[int] | None = None) -> Run:
    """Slice, whose bounds are attributes before opset 10 and inputs since."""

    def run(x: Tensor, *given: Tensor | None) -> Tensor:
        found: list[list[int] | None] = [None if each is None else whole(each) for each in given]
        first, last, along, steps = (*found, None, None)[:4] if found else (list(starts), list(ends), axes, None)
        assert first is not None
        assert last is not None
        along = range(len(first)) if along is None else along
        for axis, begin, end, step in zip(along, first, last, steps or [1] * len(first), strict=True):
            x = _sliced(x, axis % x.ndim, slice(begin, end, step))
        return x

    return run


def _sliced(x: Tensor, axis: int, part: slice) -> Tensor:
    begin, end, step = part.indices(x.shape[axis])
    if step > 0:
        return x.narrow(axis, begin, max(end - begin, 0))[(slice(None),) * axis + (slice(None, None, step),)]
    return x.index_select(axis, torch.arange(begin, end, step, device=x.device) if begin > end else _none(x))


def _none(x: Tensor) -> Tensor:
    return torch.zeros(0, dtype=torch.int64, device=x.device)


def transpose(*, perm: Sequence[int] | None = None) -> Run:
    """Transpose."""
    return lambda x: x.permute(*(range(x.ndim)[::-1] if perm is None else perm))


def reshape(*, allowzero: int = 0) -> Run:
    """Reshape, where 0 stands for the size as it is."""

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = whole(shape)
        return x.reshape(sizes if allowzero else [x.shape[n] if size == 0 else size for n, size in enumerate(sizes)])

    return run


def flatten(*, axis: int = 1) -> Run:
    """Flatten, into a matrix."""

    def run(x: Tensor) -> Tensor:
        rows = 1
        for size in x.shape[: axis + x.ndim if axis < 0 else axis]:
            rows *= size
        return x.reshape(rows, x.numel() // max(rows, 1))

    return run


def _with_axes(axes: Sequence[int] | None, given: Tensor | None) -> list[int] | None:
    if given is not None:
        return whole(given)
    return None if axes is None else list(axes)


def squeeze(*, axes: Sequence[int] | None = None) -> Run:
    """Squeeze."""

    def run(x: Tensor, given: Tensor | None = None) -> Tensor:
        chosen = _with_axes(axes, given)
        if chosen is None:
            return x.squeeze()
        if any(x.shape[axis] != 1 for axis in chosen):
            raise UserError(f"the axes {chosen} of the sizes {list(x.shape)} are not all of size 1")
        return x.squeeze(chosen)

    return run


def unsqueeze(*, axes: Sequence[int] | None = None) -> Run:
    """Unsqueeze, whose axes count in the result."""

    def run(x: Tensor, given: Tensor | None = None) -> Tensor:
        chosen = _with_axes(axes, given) or []
        for axis in sorted(axis % (x.ndim + len(chosen)) for axis in chosen):
            x = x.unsqueeze(axis)
        return x

    return run


def expand(x: Tensor, shape: Tensor) -> Tensor:
    """Expand: both are broadcast."""
    return x.expand(bounded(np.broadcast_shapes(tuple(x.shape), tuple(whole(shape)))))


def tile(x: Tensor, repeats: Tensor) -> Tensor:
    """Tile."""
    counts = whole(repeats)
    bounded([size * count for size, count in zip(x.shape, counts, strict=True)])
    return x.repeat(counts)


def shape(*, start: int = 0, end: int | None = None) -> Run:
    """Shape."""
    return lambda x: torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def size(x: Tensor) -> Tensor:
    """Size."""
    return torch.tensor(x.numel())


def gather(*, axis: int = 0) -> Run:
    """Gather, where negative indices count from the end."""

    def run(x: Tensor, indices: Tensor) -> Tensor:
        at = indices.to(x.device)
        at = torch.where(at < 0, at + x.shape[axis], at)
        place = axis % x.ndim
        found = x.index_select(place, at.flatten())
        return found.reshape((*x.shape[:place], *indices.shape, *x.shape[place + 1 :]))

    return run


def gather_elements(*, axis: int = 0) -> Run:
    """GatherElements."""

    def run(x: Tensor, indices: Tensor) -> Tensor:
        at = indices.to(x.device)
        return x.gather(axis, torch.where(at < 0, at + x.shape[axis], at))

    return run


def constant(
    *, value: Tensor | None = None, value_float: float | None = None, value_int: int | None = None,
    value_floats: Sequence[float] | None = None, value_ints: Sequence[int] | None = None,
) -> Run:  # fmt: skip
    """Constant."""
    given = next((v for v in (value, value_float, value_int, value_floats, value_ints) if v is not None), None)
    if given is None:
        raise Uncovered("a constant must be of numbers")
    floats = value_float is not None or value_floats is not None
    found = given if isinstance(given, Tensor) else torch.tensor(given, dtype=torch.float32 if floats else torch.int64)
    return lambda: found


def constant_of_shape(*, value: Tensor | None = None) -> Run:
    """ConstantOfShape."""
    filled = torch.zeros(1) if value is None else value
    return lambda sizes: filled.reshape(()).expand(bounded(whole(sizes)))


def range_(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Range."""
    bounded([max(0, int((limit.item() - start.item()) / delta.item()))])
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def eye_like(*, dtype: int | None = None, k: int = 0) -> Run:
    """EyeLike: ones on a diagonal of a matrix of the same sizes, and of the same number type if none is given."""
    if dtype is not None and dtype not in FLOATS:
        raise Uncovered(f"the number type {dtype} of ONNX is not covered")
    kind = None if dtype is None else torch.float64 if dtype == 11 else torch.float32

    def run(like: Tensor) -> Tensor:
        rows, columns = bounded(like.shape)
        places = torch.arange(columns) - torch.arange(rows)[:, None]
        return (places == k).to(kind or like.dtype)

    return run


def cast(*, to: int, saturate: int = 1, round_mode: str = "up") -> Run:
    """Cast: floating-point numbers stay in the type that the network computes in."""
    if to in FLOATS:
        kind = torch.float64 if to == 11 else torch.float32
        return lambda x: x if x.is_floating_point() else x.to(kind)
    if to == _BOOL:
        return lambda x: x != 0
    if to not in _WHOLE:
        raise Uncovered(f"the number type {to} of ONNX is not covered")
    # Through the narrow type, so that what does not fit it wraps around as it does there.
    if to in _NARROW_BITS:
        return lambda x: x.to(torch.int64) % (1 << _NARROW_BITS[to])
    narrow = _NARROW.get(to, torch.int64)
    return lambda x: x.to(torch.int64).to(narrow).to(torch.int64)


def cast_like(*, saturate: int = 1, round_mode: str = "up") -> Run:
    """CastLike: floating-point numbers stay in the type that the network computes in."""
    return lambda x, like: x if x.is_floating_point() and like.is_floating_point() else x.to(like.dtype)


def dropout(*, ratio: float = 0.5, seed: int = 0) -> Run:
    """Dropout, which does nothing in evaluation mode."""

    def run(x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> Tensor:
        if training is not None and bool(training):
            raise UserError("it drops voxels at random: export the network in evaluation mode")
        return x

    return run


def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Where."""
    condition, a, b = together(condition, a, b)
    return torch.where(condition, a, b)


def depth_to_space(*, blocksize: int, mode: str = "DCR") -> Run:
    """DepthToSpace of two spatial axes."""
    if mode not in ("DCR", "CRD"):
        raise Uncovered(f"mode {mode!r} is not one of DCR, CRD")

    def run(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        n, less = blocksize, c // blocksize**2
        if mode == "DCR":
            moved = x.reshape(b, n, n, less, h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            moved = x.reshape(b, less, n, n, h, w).permute(0, 1, 4, 2, 5, 3)
        return moved.reshape(b, less, h * n, w * n)

    return run


def space_to_depth(*, blocksize: int) -> Run:
    """SpaceToDepth of two spatial axes."""

    def run(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        n = blocksize
        moved = x.reshape(b, c, h // n, n, w // n, n).permute(0, 3, 5, 1, 2, 4)
        return moved.reshape(b, c * n * n, h // n, w // n)

    return run
