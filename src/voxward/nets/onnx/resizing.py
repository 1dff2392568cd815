"""ONNX's Resize and Upsample, one axis after the other, with places in float32 as onnxruntime computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from voxward.nets.onnx.padding import bounded
from voxward.nets.onnx.uncovered import Uncovered

Places = Callable[[np.ndarray, np.float32, int, int], np.ndarray]
_HALF, _ONE = np.float32(0.5), np.float32(1)


def _half_pixel(out: np.ndarray, scale: np.float32, size: int, new: int) -> np.ndarray:
    return (out + _HALF) / scale - _HALF


def _symmetric(out: np.ndarray, scale: np.float32, size: int, new: int) -> np.ndarray:
    whole = scale * np.float32(size)
    centre = np.float32(size) / 2
    offset = centre * (_ONE - np.float32(new) / whole)
    return offset + (out + _HALF) / scale - _HALF


def _torch_half_pixel(out: np.ndarray, scale: np.float32, size: int, new: int) -> np.ndarray:
    return _half_pixel(out, scale, size, new) if new > 1 else np.zeros_like(out)


def _asymmetric(out: np.ndarray, scale: np.float32, size: int, new: int) -> np.ndarray:
    return out / scale


def _aligned(out: np.ndarray, scale: np.float32, size: int, new: int) -> np.ndarray:
    return out * np.float32(size - 1) / np.float32(new - 1) if new > 1 else np.zeros_like(out)


_COORDINATES: dict[str, Places] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": _torch_half_pixel,
    "asymmetric": _asymmetric,
    "align_corners": _aligned,
}

_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda places: np.ceil(places - _HALF),
    "round_prefer_ceil": lambda places: np.floor(places + _HALF),
    "floor": np.floor,
    "ceil": np.ceil,
}
# The runtime's rule before opset 11: up to the voxel below, down to the voxel above.
_UP, _DOWN = "floor", "ceil"


def _one_of(name: str, value: str, legal: Sequence[str]) -> None:
    if value not in legal:
        raise Uncovered(f"{name} {value!r} is not one of {', '.join(legal)}")


def resize(
    *, mode: str = "nearest", coordinate_transformation_mode: str = "", nearest_mode: str = "round_prefer_floor",
    antialias: int = 0, axes: Sequence[int] = (), keep_aspect_ratio_policy: str = "stretch",
    cubic_coeff_a: float = -0.75, exclude_outside: int = 0, extrapolation_value: float = 0.0, opset: int,
) -> Callable[..., Tensor]:  # fmt: skip
    """Resize."""
    _one_of("mode", mode, ("nearest", "linear"))
    _one_of("keep_aspect_ratio_policy", keep_aspect_ratio_policy, ("stretch",))
    if antialias:
        raise Uncovered("antialias is not covered")
    old = opset < 11
    rule = coordinate_transformation_mode or ("asymmetric" if old else "half_pixel")
    _one_of("coordinate_transformation_mode", rule, tuple(_COORDINATES))
    _one_of("nearest_mode", nearest_mode, tuple(_NEAREST))

    def run(x: Tensor, *given: Tensor | None) -> Tensor:
        # Before opset 11 there was no region of interest between the image and the scales.
        _, scales, sizes = (None, *given, None) if old else (*given, None, None, None)[:3]
        chosen = [axis % x.ndim for axis in axes] or range(x.ndim)
        for axis, scale, new in _changes(x, chosen, scales, sizes):
            places = _COORDINATES[rule](np.arange(new, dtype=np.float32), scale, x.shape[axis], new)
            rounding = (_DOWN if scale < 1 else _UP) if old else nearest_mode
            x = _along(x, axis, places, None if mode == "linear" else rounding)
        return x

    return run


def upsample(*, mode: str = "nearest") -> Callable[..., Tensor]:
    """Upsample, of opset 9."""
    run = resize(mode=mode, opset=10)
    return lambda x, scales: run(x, scales)


def grid_sample(
    *, mode: str = "linear", padding_mode: str = "zeros", align_corners: int = 0
) -> Callable[[Tensor, Tensor], Tensor]:
    """GridSample, which called linear interpolation bilinear before opset 20."""
    _one_of("mode", mode, ("linear", "bilinear", "nearest"))
    _one_of("padding_mode", padding_mode, ("zeros", "border", "reflection"))
    kind = "nearest" if mode == "nearest" else "bilinear"
    return lambda x, grid: F.grid_sample(x, grid, kind, padding_mode, bool(align_corners))


def _changes(
    x: Tensor, axes: Sequence[int], scales: Tensor | None, sizes: Tensor | None
) -> list[tuple[int, np.float32, int]]:
    """For every axis that changes: the axis, its scale, and its new size."""
    if sizes is not None and sizes.numel():
        news = [int(size) for size in sizes.tolist()]
        factors = [np.float32(new) / np.float32(x.shape[axis]) for axis, new in zip(axes, news, strict=True)]
    elif scales is not None and scales.numel():
        factors = [np.float32(scale) for scale in scales.tolist()]
        news = [int(np.float32(x.shape[axis]) * scale) for axis, scale in zip(axes, factors, strict=True)]
    else:
        raise Uncovered("neither scales nor sizes are given")
    shape = list(x.shape)
    for axis, new in zip(axes, news, strict=True):
        shape[axis] = new
    bounded(shape)
    found = zip(axes, factors, news, strict=True)
    return [(axis, scale, new) for axis, scale, new in found if scale != 1 or new != x.shape[axis]]


def _along(x: Tensor, axis: int, places: np.ndarray, rounding: str | None) -> Tensor:
    last = x.shape[axis] - 1

    def taken(at: np.ndarray) -> Tensor:
        return x.index_select(axis, torch.from_numpy(at.astype(np.int64)).to(x.device))

    if rounding is not None:
        return taken(_NEAREST[rounding](places).clip(0, last))
    places = places.clip(0, last)
    low = np.floor(places)
    share = torch.from_numpy(places - low).to(x).view(-1, *[1] * (x.ndim - axis - 1))
    return taken(low) * (1 - share) + taken((low + 1).clip(max=last)) * share
