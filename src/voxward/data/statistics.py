"""The figures that normalise a channel: of an array, and of a tensor, differentiable. Both sides change together."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.plan import ChannelPlan, Plan

# Voxels that a case's percentiles are taken over; more are thinned out evenly.
_SAMPLE = 2_000_000
# Below this share of its window a channel's deviation is rounding: dividing by it would blow that up to noise.
_FLAT = 1e-6

Numbers = tuple[float, float, float, float]

Figures = tuple[Numbers, ...]
"""Per channel low, high, mean and standard deviation."""

LiveNumbers = tuple[float | Tensor, float | Tensor, float | Tensor, float | Tensor]

LiveFigures = tuple[LiveNumbers, ...]
"""The same, those that depend on the voxels as scalars with a history."""


def box_figures(box: np.ndarray, plan: Plan) -> Figures:
    """What a crop box (c, d, h, w) is normalised with; no standard deviation is 0."""
    return tuple(_numbers(*pair) for pair in zip(box, plan.channels, strict=True))


def live_figures(box: Float[Tensor, "c d h w"], plan: Plan) -> LiveFigures:
    """`box_figures` of a tensor, to rounding. Differentiable; a percentile moves with the voxels it lies between."""
    return tuple(_live(*pair) for pair in zip(box, plan.channels, strict=True))


def _numbers(channel: np.ndarray, plan: ChannelPlan) -> Numbers:
    if plan.normalization == "ct":
        return _given(plan)
    if plan.normalization == "none":
        return float(channel.min()), float(channel.max()), 0.0, 1.0
    if plan.normalization == "zscore":
        return _nonzero_moments(channel)
    if plan.normalization == "clip":
        mean, std = _clipped_moments(channel, plan.low, plan.high)
        return plan.low, plan.high, mean, std if std > _FLAT * (plan.high - plan.low) else 1.0
    values = _nonzero_sample(channel)
    if not len(values):
        return 0.0, 0.0, 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, _percentiles(plan)))
    if plan.normalization == "minmax":
        return low, high, low, high - low if high > low else 1.0
    clipped = np.clip(values, low, high)
    return low, high, float(clipped.mean()), float(clipped.std()) if high > low else 1.0


def _live(channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
    if plan.normalization == "ct":
        return _given(plan)
    if plan.normalization == "none":
        return channel.amin(), channel.amax(), 0.0, 1.0
    if plan.normalization == "clip":
        mean, std = _moments(channel.clamp(plan.low, plan.high), _FLAT * (plan.high - plan.low))
        return plan.low, plan.high, mean, std
    values = _nonzero(channel) if plan.normalization == "zscore" else _live_sample(channel)
    if not len(values):
        return 0.0, 0.0, 0.0, 1.0
    if plan.normalization == "zscore":
        return values.amin(), values.amax(), *_moments(values)
    ends = values.new_tensor(_percentiles(plan)) / 100
    low, high = torch.quantile(values, ends).unbind()
    if plan.normalization == "minmax":
        return low, high, low, high - low if high > low else 1.0
    return low, high, *_moments(values.clamp(low, high))


def _given(plan: ChannelPlan) -> Numbers:
    return plan.low, plan.high, plan.mean, plan.std if plan.std > 0 else 1.0


def _percentiles(plan: ChannelPlan) -> tuple[float, float]:
    return (1.0, 99.0) if plan.normalization == "minmax" else (0.5, 99.5)


def _clipped_moments(channel: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation after clipping, plane by plane: float64 of a whole scan takes memory."""
    sums = np.zeros(2)
    for plane in channel:
        clipped = np.clip(plane.astype(np.float64), low, high) - low
        sums += clipped.sum(), np.square(clipped).sum()
    mean, square = sums / channel.size
    return low + float(mean), max(float(square - mean**2), 0.0) ** 0.5


def _moments(values: Tensor, least: float = 0.0) -> tuple[Tensor, Tensor | float]:
    """Mean and standard deviation; 1 for a deviation of values that are all equal, or up to `least`."""
    variance, mean = torch.var_mean(values, correction=0)
    flat = values.amin() == values.amax() or variance <= least**2
    return mean, 1.0 if flat else variance.sqrt()


def _nonzero_sample(channel: np.ndarray) -> np.ndarray:
    step = max(1, -(-int(np.count_nonzero(channel)) // _SAMPLE))
    return np.concatenate([plane[plane != 0][::step] for plane in channel]).astype(np.float64)


def _live_sample(channel: Tensor) -> Tensor:
    step = max(1, -(-int(torch.count_nonzero(channel)) // _SAMPLE))
    return torch.cat([_nonzero(plane)[::step] for plane in channel])


def _nonzero(values: Tensor) -> Tensor:
    """By a mask: for its gradient, `values[values != 0]` would keep three 64-bit indices of every voxel."""
    return values.masked_select(values != 0)


def _nonzero_moments(channel: np.ndarray) -> Numbers:
    """Least and greatest, mean and standard deviation of the non-zero voxels."""
    values = channel[channel != 0].astype(np.float64)
    if not len(values):
        return 0.0, 0.0, 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return low, high, float(values.mean()), float(values.std()) if high > low else 1.0
