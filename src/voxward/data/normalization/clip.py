"""Normalisation by an intensity range that the recipe states (the ResDSN paper: -100 to 240 HU of the pancreas)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.plan import ChannelFingerprint, ChannelPlan, Intensities
from voxward.core.recipe import Preparation
from voxward.data.normalization.normalization import MOMENTS, LiveNumbers, Normalization, Numbers
from voxward.data.normalization.sample import live_moments

# Below this share of the intensity range a channel's deviation is rounding: dividing by it would blow it up to noise.
_FLAT = 1e-6


class Clip(Normalization):
    """Clip to `preparation.clip` (low, high), then subtract mean and divide by standard deviation of all voxels.

    Mean and standard deviation are those of the case's clipped intensities.
    """

    clips = True
    reads_plan = True
    hounsfield = None
    keeps_values = True

    def problems(self, preparation: Preparation) -> list[str]:
        """Return a sentence if the recipe does not state `clip`."""
        return [] if preparation.clip else ["clip must be (low, high) with normalization 'clip', got none"]

    def planned(
        self, channel: ChannelFingerprint, preparation: Preparation, whole: Intensities | None = None
    ) -> Numbers:
        """Return the recipe's intensity range; mean and standard deviation are measured on each case.

        Raises:
            UserError: The recipe does not state `clip`.
        """
        if preparation.clip is None:
            raise UserError("; ".join(self.problems(preparation)))
        return *preparation.clip, 0.0, 1.0

    def measure(self, channel: np.ndarray, plan: ChannelPlan) -> Numbers:
        """Return the plan's intensity range, and mean and standard deviation of the clipped intensities."""
        mean, std = _clipped_moments(channel, plan.low, plan.high)
        return plan.low, plan.high, mean, std if std > _FLAT * (plan.high - plan.low) else 1.0

    def measure_live(self, channel: Tensor, plan: ChannelPlan) -> LiveNumbers:
        """Return what `measure` returns, up to rounding. Differentiable."""
        mean, std = live_moments(channel.clamp(plan.low, plan.high), _FLAT * (plan.high - plan.low))
        return plan.low, plan.high, mean, std

    def expression(self, plan: ChannelPlan) -> str:
        """Return the same as Python text."""
        return f"(lambda u: (lambda m: (u - m[0]) / m[1])({MOMENTS}(u)))(c.clamp({plan.low}, {plan.high}))"


def _clipped_moments(channel: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation after clipping, plane by plane: float64 of a whole scan takes memory."""
    sums = np.zeros(2)
    for plane in channel:
        clipped = np.clip(plane.astype(np.float64), low, high) - low
        sums += clipped.sum(), np.square(clipped).sum()
    mean, square = sums / channel.size
    return low + float(mean), max(float(square - mean**2), 0.0) ** 0.5
