"""Scaling to [0, 1] between the least and the greatest intensity of the training cases: for masks and maps."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from voxward.core.plan import ChannelFingerprint, ChannelPlan, Intensities
from voxward.core.recipe import Preparation
from voxward.data.normalization.normalization import Normalization, Numbers


class Scale(Normalization):
    """Clip to the plan's [low, high], which become 0 and 1, the same in every case."""

    clips = True
    reads_plan = True
    keeps_values = True
    for_maps = True
    per_case = False

    def planned(
        self, channel: ChannelFingerprint, preparation: Preparation, whole: Intensities | None = None
    ) -> Numbers:
        """Return the least and the greatest intensity of the training cases, the least again, and their distance."""
        low, high = (channel.low, channel.high) if whole is None else (whole.least, whole.greatest)
        return low, high, low, high - low if high > low else 1.0

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return the numbers of the plan."""
        return plan.low, plan.high, plan.low, plan.high - plan.low if plan.high > plan.low else 1.0

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> Numbers:
        """Return the numbers of the plan, which do not depend on the voxels."""
        return plan.low, plan.high, plan.low, plan.high - plan.low if plan.high > plan.low else 1.0

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        return f"(c.clamp({plan.low}, {plan.high}) - {plan.low}) / {plan.high - plan.low or 1.0}"
