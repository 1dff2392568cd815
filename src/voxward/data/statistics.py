"""The numbers that each channel of a case is normalised with: of an array, and of a tensor that autograd follows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from voxward.core.plan import Plan
from voxward.data.normalization import LiveNumbers, Numbers, normalization_of

Figures = tuple[Numbers, ...]
"""Per channel low, high, mean and standard deviation, in the file's intensity unit."""

LiveFigures = tuple[LiveNumbers, ...]
"""Per channel the same four numbers; those that depend on the voxels are scalar tensors that autograd follows."""


def box_figures(box: Shaped[np.ndarray, "c d h w"], plan: Plan) -> Figures:
    """Return the numbers that a crop box is normalised with.

    Args:
        box: A crop box (c, d, h, w) in the file's intensities.
        plan: The plan, with one normalisation per channel.

    Returns:
        Four numbers per channel. No standard deviation is 0.

    Raises:
        UserError: The plan names a normalisation that does not exist.
    """
    pairs = zip(box, plan.channels, strict=True)
    return tuple(normalization_of(own).measure(channel, own) for channel, own in pairs)


def live_figures(box: Float[Tensor, "c d h w"], plan: Plan) -> LiveFigures:
    """Return the numbers that a crop box is normalised with, up to rounding, so that autograd can follow them.

    Args:
        box: A crop box (c, d, h, w) in the file's intensities.
        plan: The plan, with one normalisation per channel.

    Returns:
        Four numbers per channel. A percentile moves with the voxels that it lies between.

    Raises:
        UserError: The plan names a normalisation that does not exist.
    """
    pairs = zip(box, plan.channels, strict=True)
    return tuple(normalization_of(own).measure_live(channel, own) for channel, own in pairs)
