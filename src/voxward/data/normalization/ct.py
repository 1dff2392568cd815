"""Normalisation of CT, whose unit is the same in every file: the dataset's numbers for every case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from voxward.core.plan import ChannelPlan
from voxward.data.normalization.normalization import LiveNumbers, Normalization, Numbers
from voxward.data.normalization.sample import live_whole_range, whole_range


class CT(Normalization):
    """Clip to the plan's [low, high], subtract its mean, divide by its standard deviation.

    The planner takes these from the foreground of the training cases: the 0.5 and 99.5 percentiles, and mean and
    standard deviation of the intensities clipped to them. A case is scaled to 0 to 1 by its own least and greatest
    intensity where a plan has no range, because all foreground was alike.
    """

    clips = True
    nnunet = ("CTNormalization", False)
    reads_plan = True
    hounsfield = True
    per_case = False

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return the numbers of the plan, with 1 in place of a standard deviation of 0."""
        if not plan.high > plan.low:
            return whole_range(channel)
        return plan.low, plan.high, plan.mean, plan.std if plan.std > 0 else 1.0

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
        """Return the numbers of the plan, which do not depend on the voxels."""
        if not plan.high > plan.low:
            return live_whole_range(channel)
        return plan.low, plan.high, plan.mean, plan.std if plan.std > 0 else 1.0

    def monai(self, plan: ChannelPlan) -> tuple[str, Mapping[str, Any]] | None:
        """Return MONAI's transform."""
        if not plan.high > plan.low:
            return None
        std = plan.std if plan.std > 0 else 1.0
        ends = {"b_min": (plan.low - plan.mean) / std, "b_max": (plan.high - plan.mean) / std}
        return "ScaleIntensityRanged", {"a_min": plan.low, "a_max": plan.high, **ends, "clip": True}

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        if not plan.high > plan.low:
            return "(c - c.min()) / (c.max() - c.min())"
        return f"(c.clamp({plan.low}, {plan.high}) - {plan.mean}) / {plan.std or 1.0}"
