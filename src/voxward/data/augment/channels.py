"""Brightness, contrast, noise and lost sequences: parameters first, then one pass over the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from voxward.core.recipe import Augmentation
from voxward.core.types import Images


@dataclass(frozen=True, eq=False)
class ChannelDraw:
    """Per sample, in host memory: what its intensities are multiplied by (1 leaves them) and what is added (0).

    noise: standard deviation (0: none). seeds: of the noise. dropped: the channel that is set to 0, -1 for none.
    """

    factors: Float[Tensor, " b"]
    shifts: Float[Tensor, " b"]
    noise: Float[Tensor, " b"]
    seeds: Integer[Tensor, " b"]
    dropped: Integer[Tensor, " b"]


def draw_channels(recipe: Augmentation, batch: int, channels: int, generator: torch.Generator) -> ChannelDraw | None:
    """Draw for `batch` samples; None, and nothing drawn, where the recipe has all of it switched off.

    Henry et al., BraTS 2020, section 2.4: a factor U(0.9, 1.1), a shift U(-0.1, 0.1), noise of standard deviation 0.1,
    one channel dropped. As in the authors' code, factor and shift are the same for all channels of a sample.
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
    """Multiply, add, add noise, drop. Noise is drawn on the host, so that it is the same on every device."""
    shape = (-1, 1, 1, 1, 1)
    out = images * draw.factors.to(images).view(shape) + draw.shifts.to(images).view(shape)
    for n in draw.noise.nonzero().flatten().tolist():
        generator = torch.Generator().manual_seed(int(draw.seeds[n]))
        out[n] += draw.noise[n].to(out) * torch.randn(images.shape[1:], generator=generator).to(out)
    for n in (draw.dropped >= 0).nonzero().flatten().tolist():
        out[n, int(draw.dropped[n])] = 0
    return out
