"""nnU-Net's normalisation of intensities, for a prediction to the last bit and for a gradient.

Statistics are measured on the crop box before it is resampled, with the number of voxels in the denominator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxward.core.registry import Registry
from voxward.systems.nnunet.plans import Scheme

Pair = tuple[float | Tensor, float | Tensor]
"""What is subtracted from a channel, and what it is then divided by."""

# nnU-Net divides by nothing smaller.
_LEAST = 1e-8

Moments = Callable[[Tensor], Pair]


def moments_as_numpy(values: Float[Tensor, " n"]) -> Pair:
    """Return mean and standard deviation as NumPy adds them up, so that a prediction equals nnU-Net's to the last bit.

    Args:
        values: Intensities (n).
    """
    array = values.numpy()
    return float(array.mean()), max(float(array.std()), _LEAST)


def live_moments(values: Float[Tensor, " n"]) -> Pair:
    """Return mean and standard deviation. Differentiable.

    Args:
        values: Intensities (n).
    """
    variance, mean = torch.var_mean(values, correction=0)
    # A constant has no slope here, rather than an infinite one.
    flat = variance <= _LEAST**2
    return mean, variance.new_tensor(_LEAST) if flat else variance.sqrt()


def measured(
    channels: Float[Tensor, "c d h w"], inside: Bool[Tensor, "d h w"], schemes: Sequence[Scheme], moments: Moments
) -> tuple[Pair, ...]:
    """Return what each channel is normalised with.

    Args:
        channels: The crop box (c, d, h, w).
        inside: The voxels inside the scan.
        schemes: How each channel is normalised.
        moments: How mean and standard deviation are taken.
    """
    return tuple(
        MEASURES[scheme.name](channel, inside, scheme, moments)
        for channel, scheme in zip(channels, schemes, strict=True)
    )


def normalised(
    channels: Float[Tensor, "c d h w"],
    inside: Bool[Tensor, "d h w"],
    schemes: Sequence[Scheme],
    figures: Sequence[Pair],
) -> Float[Tensor, "c d h w"]:
    """Normalise the crop box. Differentiable.

    Args:
        channels: The crop box (c, d, h, w).
        inside: The voxels inside the scan.
        schemes: How each channel is normalised.
        figures: What `measured` returned.
    """
    found = []
    for channel, scheme, (shift, divisor) in zip(channels, schemes, figures, strict=True):
        clipped = channel.clamp(scheme.low, scheme.high) if scheme.name == "CTNormalization" else channel
        own = (clipped - shift) / divisor
        found.append(torch.where(inside, own, channel) if scheme.masked else own)
    return torch.stack(found)


def _zscore(channel: Tensor, inside: Tensor, scheme: Scheme, moments: Moments) -> Pair:
    return moments(channel[inside] if scheme.masked else channel.reshape(-1))


def _ct(channel: Tensor, inside: Tensor, scheme: Scheme, moments: Moments) -> Pair:
    return scheme.mean, max(scheme.std, _LEAST)


def _to_one(channel: Tensor, inside: Tensor, scheme: Scheme, moments: Moments) -> Pair:
    low = channel.amin()
    return low, (channel - low).amax().clamp_min(_LEAST)


def _rgb(channel: Tensor, inside: Tensor, scheme: Scheme, moments: Moments) -> Pair:
    return 0.0, 255.0


def _nothing(channel: Tensor, inside: Tensor, scheme: Scheme, moments: Moments) -> Pair:
    return 0.0, 1.0


MEASURES: Registry[Callable[[Tensor, Tensor, Scheme, Moments], Pair]] = Registry(
    "normalisation of nnU-Net",
    {
        "ZScoreNormalization": _zscore,
        "CTNormalization": _ct,
        "RescaleTo01Normalization": _to_one,
        "RGBTo01Normalization": _rgb,
        "NoNormalization": _nothing,
    },
)


def ranges(channels: Float[np.ndarray, "c d h w"], schemes: Sequence[Scheme]) -> list[tuple[float, float]]:
    """Return the intensity range of each channel that the network tells apart.

    Args:
        channels: The crop box (c, d, h, w) in the file's intensities.
        schemes: How each channel is normalised.
    """
    return [
        (scheme.low, scheme.high) if scheme.name == "CTNormalization" else (float(channel.min()), float(channel.max()))
        for channel, scheme in zip(channels, schemes, strict=True)
    ]
