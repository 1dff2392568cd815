"""Normalisation to mean 0 and variance 1 of all voxels of the case (MONAI's NormalizeIntensity, nnU-Net's z-score)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from voxward.core.plan import ChannelPlan
from voxward.data.normalization.normalization import MOMENTS, LiveNumbers, Normalization, Numbers
from voxward.data.normalization.sample import live_moments


class Standard(Normalization):
    """Subtract mean and divide by standard deviation of all voxels, those that are 0 included.

    Only what resampling overshoots is cut off, at the case's least and greatest intensity.
    """

    nnunet = ("ZScoreNormalization", False)
    keeps_values = True

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return least and greatest intensity, mean and standard deviation, or 1 where all voxels are alike."""
        low, high = float(channel.min()), float(channel.max())
        # Plane by plane: float64 of a whole scan takes memory.
        mean = sum(float(plane.sum(dtype=np.float64)) for plane in channel) / channel.size
        squares = sum(float(np.square(plane.astype(np.float64) - mean).sum()) for plane in channel)
        return low, high, mean if high > low else low, (squares / channel.size) ** 0.5 if high > low else 1.0

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
        """Return what `measure` returns, up to rounding. Differentiable."""
        return channel.amin(), channel.amax(), *live_moments(channel)

    def monai(self, plan: ChannelPlan) -> tuple[str, Mapping[str, Any]] | None:
        """Return MONAI's transform."""
        return "NormalizeIntensityd", {"channel_wise": True}

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        return f"(lambda m: (c - m[0]) / m[1])({MOMENTS}(c))"
