"""Normalisation of MR, whose intensities have no unit: each case by its own non-zero voxels."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from voxward.core.plan import ChannelPlan
from voxward.data.normalization.normalization import MOMENTS, LiveNumbers, Normalization, Numbers
from voxward.data.normalization.sample import (
    live_moments,
    live_nonzero_sample,
    live_percentiles,
    live_whole_range,
    nonzero_sample,
    whole_range,
)

_PERCENTILES = (0.5, 99.5)


class MR(Normalization):
    """Clip to the 0.5 and 99.5 percentiles of the case's non-zero voxels, subtract mean, divide by standard deviation.

    Mean and standard deviation are those of the clipped non-zero voxels. A channel without any is left at 0.
    Where the percentiles coincide, the channel is scaled to 0 to 1 between its least and its greatest intensity.
    """

    clips = True
    keeps_zero = True

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return percentiles, mean and standard deviation of the non-zero voxels."""
        values = nonzero_sample(channel)
        if not len(values):
            return 0.0, 0.0, 0.0, 1.0
        low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
        if not high > low:
            return whole_range(channel)
        clipped = np.clip(values, low, high)
        return low, high, float(clipped.mean()), float(clipped.std())

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
        """Return percentiles, mean and standard deviation of the non-zero voxels, up to rounding. Differentiable."""
        values = live_nonzero_sample(channel)
        if not len(values):
            return 0.0, 0.0, 0.0, 1.0
        low, high = live_percentiles(values, _PERCENTILES)
        if not high > low:
            return live_whole_range(channel)
        return low, high, *live_moments(values.clamp(low, high))

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        moments = f"{MOMENTS}(c[c != 0].clamp(*q))"
        percentiles = f"np.percentile(c[c != 0], {list(_PERCENTILES)}).tolist()"
        clipped = f"(lambda q: (lambda m: (c.clamp(*q) - m[0]) / m[1])({moments}))({percentiles})"
        return f"{clipped} if (c != 0).any() else c"
