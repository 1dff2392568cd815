"""Normalisation of CT, whose unit is the same in every file: the dataset's numbers for every case."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from voxward.core.plan import ChannelPlan
from voxward.data.normalization.normalization import Normalization, Numbers


class CT(Normalization):
    """Clip to the plan's [low, high], subtract its mean, divide by its standard deviation.

    The planner takes these from the foreground of the training cases: the 0.5 and 99.5 percentiles, and mean and
    standard deviation of the intensities clipped to them.
    """

    reads_plan = True

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return the numbers of the plan, with 1 in place of a standard deviation of 0."""
        return plan.low, plan.high, plan.mean, plan.std if plan.std > 0 else 1.0

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> Numbers:
        """Return the numbers of the plan, which do not depend on the voxels."""
        return plan.low, plan.high, plan.mean, plan.std if plan.std > 0 else 1.0
