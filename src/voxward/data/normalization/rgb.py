"""Division by 255, for photographs (nnU-Net's `rgb_to_0_1`)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from voxward.core.plan import ChannelPlan
from voxward.data.normalization.normalization import LiveNumbers, Normalization, Numbers

_WHITE = 255.0


class RGB(Normalization):
    """0 to 255 become 0 to 1. Nothing is clipped but what resampling overshoots."""

    nnunet = ("RGBTo01Normalization", False)
    keeps_values = True
    per_case = False

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return 0 and 255, or the case's least and greatest intensity where they lie outside; 0; and 255."""
        return min(0.0, float(channel.min())), max(_WHITE, float(channel.max())), 0.0, _WHITE

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
        """Return what `measure` returns. Differentiable."""
        return channel.amin().clamp(max=0.0), channel.amax().clamp(min=_WHITE), 0.0, _WHITE

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        return f"c / {_WHITE}"
