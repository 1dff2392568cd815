"""Changes of intensities with a few parameters, which are smoothed in place of the voxels: what scanners vary.

Smoothing in parameters needs changes that compose by adding their parameters, T(a) after T(b) = T(a + b) (Fischer et
al. 2020; Li et al. 2021, "resolvable"). Then noise in the parameters around a changed volume is noise around the
change's own parameters, and all that holds of noise in voxels holds of a. Each change below says why it is so. None of
them clips or rounds: that would break it. What a system clips is a part of the system.

A change composes with others of its own kind only: nothing is certified of a gain and an offset together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Protocol, runtime_checkable

import numpy as np

from voxward.certificates.noise import Frame, per_channel
from voxward.core.errors import UserError
from voxward.core.registry import Registry


@runtime_checkable
class Change(Protocol):
    """A change of intensities by parameters that add up under composition."""

    def count(self, channels: int) -> int:
        """Return the number of parameters for a volume of so many channels."""
        ...

    def apply(self, volume: np.ndarray, parameters: np.ndarray, frame: Frame) -> np.ndarray:
        """Return the changed volume; voxels that are held stay.

        Args:
            volume: Intensities (c, i, j, k).
            parameters: The parameters (count,); 0 changes nothing.
            frame: The intensity windows of the clean volume, and which voxels are held.
        """
        ...

    def reading(self, radius: float, channels: int) -> str:
        """Return in a few words which changes have parameters of at most a Euclidean norm."""
        ...


@dataclass(frozen=True)
class Gain:
    """Intensities times exp(a), with one a per channel, around a fixed origin.

    exp(a) exp(b) = exp(a + b), and the origin stays where it is. It is 0 where the window of the clean volume begins at
    0 or above, as in MR and PET, and else the low end of the window, as in CT.
    """

    def count(self, channels: int) -> int:
        """Return one parameter per channel; see Change."""
        return channels

    def apply(self, volume: np.ndarray, parameters: np.ndarray, frame: Frame) -> np.ndarray:
        """Multiply the distance to the origin; see Change."""
        origin = _origin(frame)
        return _kept(volume, origin + (volume - origin) * np.exp(per_channel(list(parameters))), frame)

    def reading(self, radius: float, channels: int) -> str:
        """Return the gains in per cent; see Change."""
        return _together(f"gain {math.expm1(-radius):+.0%} to {math.expm1(radius):+.0%}", channels)


@dataclass(frozen=True)
class Offset:
    """A share a of the intensity window is added, with one a per channel; shares add up."""

    def count(self, channels: int) -> int:
        """Return one parameter per channel; see Change."""
        return channels

    def apply(self, volume: np.ndarray, parameters: np.ndarray, frame: Frame) -> np.ndarray:
        """Add the offset; see Change."""
        return _kept(volume, volume + per_channel(list(parameters)) * per_channel(list(frame.width)), frame)

    def reading(self, radius: float, channels: int) -> str:
        """Return the offsets in per cent of the window; see Change."""
        return _together(f"offset {-radius:+.0%} to {radius:+.0%} of the intensity window", channels)


@dataclass(frozen=True)
class Gamma:
    """Intensities in the window, as u in [0, 1], to the power exp(a), with one a per channel; others stay.

    (u^exp(a))^exp(b) = u^exp(a + b), and a power takes [0, 1] into [0, 1], so that each voxel stays on its side.
    """

    def count(self, channels: int) -> int:
        """Return one parameter per channel; see Change."""
        return channels

    def apply(self, volume: np.ndarray, parameters: np.ndarray, frame: Frame) -> np.ndarray:
        """Raise to the power within the window; see Change."""
        low, width = per_channel(list(frame.low)), per_channel(list(frame.width))
        share = (volume - low) / width
        within = (share > 0) & (share < 1)
        powers = np.power(np.where(within, share, 0.5), np.exp(per_channel(list(parameters))))
        return _kept(volume, np.where(within, low + powers * width, volume), frame)

    def reading(self, radius: float, channels: int) -> str:
        """Return the powers; see Change."""
        return _together(f"gamma {math.exp(-radius):.2f} to {math.exp(radius):.2f}", channels)


@dataclass(frozen=True)
class Bias:
    """A smooth field times the intensities: exp of a polynomial in the voxel's place, around the origin of Gain.

    exp(p) exp(q) = exp(p + q), so that the coefficients add up. The polynomials are products of Legendre polynomials
    with a total degree of 1 to `degree`, on the volume's box scaled to [-1, 1]; each is at most 1 in size.

    Attributes:
        degree: The greatest total degree.
    """

    degree: int = 3

    def count(self, channels: int) -> int:
        """Return one coefficient per polynomial and channel; see Change."""
        return channels * sum(1 for _ in self._degrees())

    def apply(self, volume: np.ndarray, parameters: np.ndarray, frame: Frame) -> np.ndarray:
        """Multiply by the field; see Change."""
        origin, coefficients = _origin(frame), parameters.reshape(len(volume), -1)
        field = np.stack([np.exp(self._logarithm(own, volume.shape[1:])) for own in coefficients])
        return _kept(volume, origin + (volume - origin) * field, frame)

    def reading(self, radius: float, channels: int) -> str:
        """Return how strong the field may be at most, by the inequality of Cauchy and Schwarz; see Change."""
        most = radius * math.sqrt(sum(1 for _ in self._degrees()))
        return (
            f"bias field of degree {self.degree} with coefficients of norm {radius:.3g}, in no voxel beyond "
            f"{math.expm1(-most):+.0%} to {math.expm1(most):+.0%}"
        )

    def _degrees(self) -> Iterator[tuple[int, ...]]:
        places = product(range(self.degree + 1), repeat=3)
        return (place for place in places if 1 <= sum(place) <= self.degree)

    def _logarithm(self, coefficients: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The polynomial on the voxels of a volume."""
        table = np.zeros((self.degree + 1,) * 3)
        for place, value in zip(self._degrees(), coefficients, strict=True):
            table[place] = value
        i, j, k = (np.linspace(-1, 1, length) if length > 1 else np.zeros(1) for length in shape)
        field: np.ndarray = np.polynomial.legendre.leggrid3d(i, j, k, table)
        return field


CHANGES: Registry[Change] = Registry("change", {"gain": Gain(), "offset": Offset(), "gamma": Gamma(), "bias": Bias()})
"""The changes whose parameters can be smoothed, by name."""


def changed(volume: np.ndarray, kind: str, sigma: float, frame: Frame, source: np.random.Generator) -> np.ndarray:
    """Return a volume changed by parameters that are drawn from N(0, sigma^2).

    Args:
        volume: Intensities (c, i, j, k).
        kind: One of CHANGES.
        sigma: The standard deviation of each parameter.
        frame: The intensity windows of the clean volume, and which voxels are held.
        source: The source of the parameters.

    Returns:
        The changed volume, float64.

    Raises:
        UserError: The change is unknown, or sigma is not above 0.
    """
    if not sigma > 0:
        raise UserError(f"sigma must be above 0, got {sigma:g}")
    change = CHANGES[kind]
    drawn = sigma * source.standard_normal(change.count(len(volume)))
    return change.apply(volume.astype(np.float64), drawn, frame)


def _origin(frame: Frame) -> np.ndarray:
    return per_channel([0.0 if low >= 0 else low for low in frame.low])


def _kept(volume: np.ndarray, found: np.ndarray, frame: Frame) -> np.ndarray:
    return np.where(frame.held, volume, found)


def _together(text: str, channels: int) -> str:
    """Over several channels the norm is shared between them."""
    return text if channels == 1 else f"{text} of one channel, or less of several together"
