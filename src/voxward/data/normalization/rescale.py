"""Scaling to [0, 1] between the least and the greatest intensity of each case (nnU-Net's `rescale_to_0_1`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from voxward.core.plan import ChannelPlan
from voxward.data.normalization.normalization import LiveNumbers, Normalization, Numbers
from voxward.data.normalization.sample import live_whole_range, whole_range


class Rescale(Normalization):
    """The least and the greatest intensity of the case become 0 and 1."""

    nnunet = ("RescaleTo01Normalization", False)
    keeps_values = True

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return the least and the greatest intensity, the least again, and their distance."""
        return whole_range(channel)

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
        """Return what `measure` returns, up to rounding. Differentiable."""
        return live_whole_range(channel)

    def monai(self, plan: ChannelPlan) -> tuple[str, Mapping[str, Any]] | None:
        """Return MONAI's transform."""
        return "ScaleIntensityd", {"channel_wise": True}

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        return "(c - c.min()) / (c.max() - c.min())"
