"""Gamma correction of a batch: exponents are drawn first, then applied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.recipe import Augmentation
from voxward.core.types import Images


@dataclass(frozen=True, eq=False)
class IntensityDraw:
    """The exponents of a batch's gamma correction, in host memory.

    Attributes:
        gammas: One exponent per sample and channel (b, c); 1 leaves a channel as it is, bit for bit.
    """

    gammas: Float[Tensor, "b c"]


def draw_intensity(recipe: Augmentation, batch: int, channels: int, generator: torch.Generator) -> IntensityDraw:
    """Draw the exponents of a batch's gamma correction.

    All channels of a sample are corrected or none, each with its own exponent. If the range spans 1, half of the
    exponents are uniform below 1 (brighter) and half above 1 (darker), as in nnU-Net; a plain uniform draw over (0.7,
    1.5) would darken five times in eight. Otherwise they are uniform over the range.

    Args:
        recipe: Range and probability.
        batch: Number of samples.
        channels: Number of image channels.
        generator: The source of the random numbers, on the CPU.
    """
    low, high = recipe.gamma
    chosen = torch.rand(batch, 1, generator=generator) < recipe.gamma_probability
    below = torch.rand(batch, channels, generator=generator) < 0.5
    share = torch.rand(batch, channels, generator=generator)
    if low < 1 < high:
        exponents = torch.where(below, low + share * (1 - low), 1 + share * (high - 1))
    else:
        exponents = low + share * (high - low)
    return IntensityDraw(torch.where(chosen, exponents, 1.0))


def apply_intensity(images: Images, draw: IntensityDraw) -> Images:
    """Raise intensities to the power gamma, after rescaling each channel of each patch to [0, 1] by its own extremes.

    The result is scaled back, so minimum and maximum stay, and a constant channel is unchanged.

    Args:
        images: Normalised intensities (b, c, d, h, w).
        draw: The exponents.

    Returns:
        The corrected images (b, c, d, h, w).
    """
    active = (draw.gammas != 1).flatten().nonzero().flatten()
    if not len(active):
        return images
    where = active.to(images.device)
    planes = images.flatten(0, 1).clone()
    gammas = draw.gammas.flatten()[active].to(images).view(-1, 1, 1, 1)
    planes[where] = _gamma(planes[where], gammas)
    return planes.view_as(images)


def _gamma(x: Float[Tensor, "n d h w"], gammas: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n d h w"]:
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    width = high - low
    unit = (x - low) / torch.where(width > 0, width, 1.0)
    return torch.where(width > 0, unit**gammas * width + low, x)
