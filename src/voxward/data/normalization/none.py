"""No normalisation: intensities stay in the file's unit."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from voxward.core.plan import ChannelPlan
from voxward.data.normalization.normalization import LiveNumbers, Normalization, Numbers


class Unchanged(Normalization):
    """Keep the intensities. Only what resampling overshoots is cut off, at the case's least and greatest intensity."""

    nnunet = ("NoNormalization", False)
    keeps_values = True
    per_case = False

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return the least and the greatest intensity, 0 and 1."""
        return float(channel.min()), float(channel.max()), 0.0, 1.0

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
        """Return the least and the greatest intensity, 0 and 1. Differentiable."""
        return channel.amin(), channel.amax(), 0.0, 1.0

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        return "c"
