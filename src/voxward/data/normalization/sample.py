"""The measurements that several normalisations share, each for an array and for a tensor that autograd follows."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

# Voxels that a case's percentiles are taken over; more are thinned out evenly.
_SAMPLE = 2_000_000


def nonzero_sample(channel: Shaped[np.ndarray, "d h w"]) -> Float[np.ndarray, " n"]:
    """Return the intensities of the voxels that are not 0, thinned out evenly if there are more than two million.

    Args:
        channel: A channel (d, h, w).

    Returns:
        Intensities (n), float64.
    """
    step = max(1, -(-int(np.count_nonzero(channel)) // _SAMPLE))
    return np.concatenate([plane[plane != 0][::step] for plane in channel]).astype(np.float64)


def live_nonzero_sample(channel: Float[Tensor, "d h w"]) -> Float[Tensor, " n"]:
    """Return the same voxels of a tensor as `nonzero_sample` does of an array.

    Args:
        channel: A channel (d, h, w).

    Returns:
        Intensities (n), in the number type of `channel`. Differentiable.
    """
    step = max(1, -(-int(torch.count_nonzero(channel)) // _SAMPLE))
    return torch.cat([live_nonzero(plane)[::step] for plane in channel])


def live_nonzero(values: Float[Tensor, "*shape"]) -> Float[Tensor, " n"]:
    """Return the intensities of all voxels that are not 0. Differentiable.

    Args:
        values: Intensities in any shape.

    Returns:
        Intensities (n), in array order.
    """
    # By a mask: for its gradient, `values[values != 0]` would keep three 64-bit indices of every voxel.
    return values.masked_select(values != 0)


def live_percentiles(values: Float[Tensor, " n"], ends: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return two percentiles. Differentiable; a percentile moves with the voxels that it lies between.

    Args:
        values: Intensities (n), n >= 1.
        ends: The two percentiles, in [0, 100].
    """
    low, high = torch.quantile(values, values.new_tensor(ends) / 100).unbind()
    return low, high


def live_moments(values: Float[Tensor, "*shape"], least: float = 0.0) -> tuple[Tensor, Tensor | float]:
    """Return mean and standard deviation. Differentiable.

    Args:
        values: Intensities in any shape, at least one.
        least: The standard deviation up to which intensities count as constant.

    Returns:
        The mean, and the standard deviation, or 1 where the intensities are constant.
    """
    variance, mean = torch.var_mean(values, correction=0)
    flat = values.amin() == values.amax() or variance <= least**2
    return mean, 1.0 if flat else variance.sqrt()


def whole_range(channel: Shaped[np.ndarray, "d h w"]) -> tuple[float, float, float, float]:
    """Return the numbers that scale a channel to 0 to 1 between its least and its greatest intensity.

    A normalisation takes them where its own measurements coincide, though the channel has more than one value: a mask
    of 0 and 1, for example, whose non-zero voxels are all alike, would otherwise become constant.

    Args:
        channel: A channel (d, h, w).

    Returns:
        The least and the greatest intensity, the least again, and their distance, or 1 where they are the same.
    """
    low, high = float(channel.min()), float(channel.max())
    return low, high, low, high - low if high > low else 1.0


def live_whole_range(channel: Float[Tensor, "d h w"]) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
    """Return what `whole_range` returns, up to rounding. Differentiable.

    Args:
        channel: A channel (d, h, w).
    """
    low, high = channel.amin(), channel.amax()
    return low, high, low, high - low if high > low else 1.0
