"""Normalisation to mean 0 and variance 1 of the case's own non-zero voxels; the background stays 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxward.core.plan import ChannelPlan
from voxward.data.normalization.normalization import MOMENTS, LiveNumbers, Normalization, Numbers
from voxward.data.normalization.sample import live_moments, live_nonzero


class ZScore(Normalization):
    """Subtract mean and divide by standard deviation of the case's non-zero voxels; voxels that are 0 stay 0.

    Nothing is clipped. Low and high are the least and the greatest intensity of the non-zero voxels. Where these are
    all alike beside voxels that are 0, as in a mask, they become 1 (or -1).
    """

    nnunet = ("ZScoreNormalization", True)
    keeps_zero = True

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return least and greatest intensity, mean and standard deviation of the non-zero voxels."""
        values = channel[channel != 0].astype(np.float64)
        if not len(values):
            return 0.0, 0.0, 0.0, 1.0
        low, high = float(values.min()), float(values.max())
        if low == high and len(values) < channel.size:
            return min(low, 0.0), max(low, 0.0), 0.0, abs(low)
        return low, high, float(values.mean()), float(values.std()) if high > low else 1.0

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
        """Return what `measure` returns, up to rounding. Differentiable."""
        values = live_nonzero(channel)
        if not len(values):
            return 0.0, 0.0, 0.0, 1.0
        low, high = values.amin(), values.amax()
        if low == high and len(values) < channel.numel():
            return low.clamp(max=0), low.clamp(min=0), 0.0, low.abs()
        return low, high, *live_moments(values)

    def zero(self, numbers: Numbers) -> float | None:
        """Return 0, which the background keeps."""
        return 0.0

    def before_resampling(self, x: Tensor, numbers: LiveNumbers) -> Tensor:
        """Normalise all voxels but those that are 0.

        This comes before resampling, so that voxels at the rim of the brain lie between the background's 0 and the
        brain's normalised intensities.
        """
        _, _, mean, std = numbers
        x = x if x.is_floating_point() else x.float()
        return torch.where(x != 0, (x - mean) / std, torch.zeros_like(x))

    def after_resampling(self, x: Tensor, numbers: LiveNumbers) -> Tensor:
        """Return `x`, which was normalised before resampling."""
        return x

    def monai(self, plan: ChannelPlan) -> tuple[str, Mapping[str, Any]] | None:
        """Return MONAI's transform."""
        return "NormalizeIntensityd", {"nonzero": True, "channel_wise": True}

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        return (
            f"(lambda m: torch.where(c != 0, (c - m[0]) / m[1], 0 * c))({MOMENTS}(c[c != 0])) if (c != 0).any() else c"
        )
