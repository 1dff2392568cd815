"""Brightness, contrast, noise and lost sequences: parameters are drawn first, then one pass applies them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from voxward.core.recipe import Augmentation
from voxward.core.types import Images


@dataclass(frozen=True, eq=False)
class ChannelDraw:
    """The random changes of a batch's intensities, per sample and in host memory.

    Attributes:
        factors: What the intensities are multiplied by (b); 1 changes nothing.
        shifts: What is added to them (b); 0 changes nothing.
        noise: Standard deviation of the added noise (b); 0 is no noise.
        seeds: The seed of each sample's noise (b).
        dropped: The channel that is set to 0 (b); -1 for none.
    """

    factors: Float[Tensor, " b"]
    shifts: Float[Tensor, " b"]
    noise: Float[Tensor, " b"]
    seeds: Integer[Tensor, " b"]
    dropped: Integer[Tensor, " b"]


def draw_channels(recipe: Augmentation, batch: int, channels: int, generator: torch.Generator) -> ChannelDraw | None:
    """Draw the changes of a batch's intensities.

    Henry et al., BraTS 2020, section 2.4: a factor U(0.9, 1.1), a shift U(-0.1, 0.1), noise of standard deviation 0.1,
    and one dropped channel. As in the authors' code, factor and shift are the same for all channels of a sample.

    Args:
        recipe: Ranges and probabilities.
        batch: Number of samples.
        channels: Number of image channels.
        generator: The source of the random numbers, on the CPU.

    Returns:
        The draw. None, without using the generator, if the recipe switches all of these changes off.
    """
    chances = (
        recipe.intensity_scale_probability, recipe.intensity_shift_probability, recipe.noise_probability,
        recipe.drop_channel_probability,
    )  # fmt: skip
    if not any(chances):
        return None
    wanted = torch.rand(batch, 4, generator=generator) < torch.tensor(chances)
    low, high = recipe.intensity_scale
    factors = low + (high - low) * torch.rand(batch, generator=generator)
    shifts = recipe.intensity_shift * (2 * torch.rand(batch, generator=generator) - 1)
    seeds = torch.randint(2**62, (batch,), generator=generator)
    dropped = torch.randint(channels, (batch,), generator=generator)
    scaled, shifted, noisy, drops = wanted.unbind(1)
    return ChannelDraw(
        torch.where(scaled, factors, 1.0), torch.where(shifted, shifts, 0.0), noisy * recipe.noise_std, seeds,
        torch.where(drops, dropped, -1),
    )  # fmt: skip


def apply_channels(images: Images, draw: ChannelDraw) -> Images:
    """Multiply, add, add noise and drop channels, in this order.

    The noise is drawn on the host, so that it is the same on every device.

    Args:
        images: Normalised intensities (b, c, d, h, w).
        draw: What to do with each sample.

    Returns:
        The changed images (b, c, d, h, w).
    """
    shape = (-1, 1, 1, 1, 1)
    out = images * draw.factors.to(images).view(shape) + draw.shifts.to(images).view(shape)
    for n in draw.noise.nonzero().flatten().tolist():
        generator = torch.Generator().manual_seed(int(draw.seeds[n]))
        out[n] += draw.noise[n].to(out) * torch.randn(images.shape[1:], generator=generator).to(out)
    for n in (draw.dropped >= 0).nonzero().flatten().tolist():
        out[n, int(draw.dropped[n])] = 0
    return out
