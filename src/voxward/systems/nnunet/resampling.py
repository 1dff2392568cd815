"""nnU-Net's resampling: splines along all axes or in a plane, limited to the range of what came in.

A resampled value never leaves the range of its channel, or of its slice where the thick axis is treated apart. But for
that limit everything here is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from voxward.core.devices import wide
from voxward.core.registry import Registry
from voxward.core.types import Float3, Size3
from voxward.data.resample import resample
from voxward.systems.nnunet.plans import Resampling

# A voxel more than so many times as long as it is wide is anisotropic.
_ANISOTROPIC = 3


def resampled(
    x: Float[Tensor, "c d h w"], grid: Size3, spacing: Float3, target: Float3, how: Resampling
) -> Float[Tensor, "c d2 h2 w2"]:
    """Resample an array as nnU-Net does. Differentiable.

    Args:
        x: The array (c, d, h, w).
        grid: The new shape.
        spacing: The voxel size before.
        target: The voxel size after.
        how: The function and its orders.

    Returns:
        The resampled array, in the number type of `x`.
    """
    return FUNCTIONS[how.function](x, grid, separate_axis(spacing, target, how.force_separate_z), how)


def grid_of(shape: Size3, spacing: Float3, target: Float3, how: Resampling) -> Size3:
    """Return the shape that an array is resampled to.

    Args:
        shape: Its shape.
        spacing: The voxel size before.
        target: The voxel size after.
        how: The function and its orders.
    """
    if FUNCTIONS[how.function] is _kept:
        return shape
    # Python rounds a half to the even number, as nnU-Net does.
    d, h, w = (round(old / new * length) for old, new, length in zip(spacing, target, shape, strict=True))
    return d, h, w


def separate_axis(spacing: Sequence[float], target: Sequence[float], force: bool | None) -> int | None:
    """Return the thick axis that is treated apart, or None where all are treated alike.

    Args:
        spacing: The voxel size before.
        target: The voxel size after.
        force: Whether an axis is treated apart whatever its size; None decides by the voxel sizes.
    """
    if force is not None:
        thick = _thickest(spacing) if force else []
    else:
        thick = next((_thickest(s) for s in (spacing, target) if max(s) / min(s) > _ANISOTROPIC), [])
    return thick[0] if len(thick) == 1 else None


def _thickest(spacing: Sequence[float]) -> list[int]:
    return [axis for axis, length in enumerate(spacing) if length == max(spacing)]


def _splines(x: Tensor, grid: Size3, apart: int | None, how: Resampling) -> Tensor:
    if tuple(x.shape[1:]) == grid:
        return x
    if x.requires_grad:
        return _splined(x, grid, apart, how)
    # One channel after the other: in double precision, all classes of a large volume would not fit into memory.
    return torch.cat([_splined(x[n : n + 1], grid, apart, how) for n in range(len(x))])


def _splined(x: Tensor, grid: Size3, apart: int | None, how: Resampling) -> Tensor:
    plane = _with(grid, apart, x)
    fine = wide(x)
    # In the plane of a thick axis every slice has a range of its own.
    dims = tuple(axis + 1 for axis in range(3) if axis != apart)
    low, high = fine.amin(dims, keepdim=True), fine.amax(dims, keepdim=True)
    order = how.order
    found = torch.maximum(torch.minimum(resample(fine, plane, (order, order, order)), high), low)
    if apart is not None and plane != grid:
        found = _along(found, apart, grid, how.order_z)
    return _rounded(found, x)


def _with(grid: Size3, apart: int | None, x: Tensor) -> Size3:
    """The grid in the plane; the thick axis keeps its length."""
    d, h, w = (x.shape[axis + 1] if axis == apart else length for axis, length in enumerate(grid))
    return d, h, w


def _along(x: Tensor, axis: int, grid: Size3, order: int) -> Tensor:
    """The thick axis; the scale is computed first, which decides to which slice a tie goes."""
    if order:
        return resample(x, grid, (order, order, order))
    before, after = x.shape[axis + 1], grid[axis]
    place = (float(before) / after) * (np.arange(after) + 0.5) - 0.5
    nearest = np.clip(np.floor(place + 0.5).astype(int), 0, before - 1)
    return x.index_select(axis + 1, torch.from_numpy(nearest).to(x.device))


def _rounded(found: Tensor, like: Tensor) -> Tensor:
    """The number type of the input. PyTorch would round float64 to float16 twice; nnU-Net rounds once."""
    if like.dtype == torch.float16:
        return torch.from_numpy(found.cpu().numpy().astype(np.float16)).to(like.device)
    return found.to(like.dtype)


def _linear(x: Tensor, grid: Size3, apart: int | None, how: Resampling) -> Tensor:
    """PyTorch's own interpolation, which some planners of nnU-Net ask for; the result is float32 at least."""
    if tuple(x.shape[1:]) == grid:
        return x
    found = x if x.dtype == torch.float64 else x.float()
    plane = _with(grid, apart, x)
    if plane != tuple(found.shape[1:]):
        found = F.interpolate(found[None], plane, mode="trilinear", antialias=False)[0]
    return found if plane == grid else F.interpolate(found[None], grid, mode="nearest-exact")[0]


def _kept(x: Tensor, grid: Size3, apart: int | None, how: Resampling) -> Tensor:
    return x


FUNCTIONS: Registry[Callable[[Tensor, Size3, int | None, Resampling], Tensor]] = Registry(
    "resampling function of nnU-Net",
    {
        "resample_data_or_seg_to_shape": _splines,
        "resample_torch_fornnunet": _linear,
        "no_resampling_hack": _kept,
    },
)
