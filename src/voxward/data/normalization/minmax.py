"""Normalisation to [0, 1] between two percentiles of the case's own non-zero voxels (Henry et al., BraTS 2020)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from voxward.core.plan import ChannelPlan
from voxward.data.normalization.normalization import LiveNumbers, Normalization, Numbers
from voxward.data.normalization.sample import (
    live_nonzero_sample,
    live_percentiles,
    live_whole_range,
    nonzero_sample,
    whole_range,
)

_PERCENTILES = (1.0, 99.0)


class MinMax(Normalization):
    """Clip to the 1 and 99 percentiles of the case's non-zero voxels, which become 0 and 1.

    A channel without non-zero voxels is left at 0. Where the percentiles coincide, the least and the greatest intensity
    of all voxels become 0 and 1.
    """

    clips = True
    keeps_zero = True

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return the percentiles, low again as the mean, and their distance as the standard deviation."""
        values = nonzero_sample(channel)
        if not len(values):
            return 0.0, 0.0, 0.0, 1.0
        low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
        return (low, high, low, high - low) if high > low else whole_range(channel)

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
        """Return what `measure` returns, up to rounding. Differentiable."""
        values = live_nonzero_sample(channel)
        if not len(values):
            return 0.0, 0.0, 0.0, 1.0
        low, high = live_percentiles(values, _PERCENTILES)
        return (low, high, low, high - low) if high > low else live_whole_range(channel)

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        percentiles = f"np.percentile(c[c != 0], {list(_PERCENTILES)}).tolist()"
        return f"(lambda q: (c.clamp(*q) - q[0]) / (q[1] - q[0]))({percentiles}) if (c != 0).any() else c"
