"""The steps of preprocessing that change intensities, with statistics that a gradient goes through.

MONAI's own NormalizeIntensity counts mean and standard deviation as constants, so that its gradient is wrong; here they
are functions of the image, unless they are held.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from voxward.core.devices import wide_type
from voxward.core.errors import UserError
from voxward.core.types import Image
from voxward.systems.bundle.geometry import Unmoved
from voxward.systems.bundle.steps import Placed

Figure = float | Tensor
Figures = tuple[tuple[Figure, Figure], ...]
"""Two numbers for each part of an image that is treated by itself: all channels together, or each."""

# Of more values than that MONAI takes the percentiles with NumPy, which computes in float64.
_MANY = 1_000_000


class Intensity(ABC):
    """A step that changes intensities by two numbers which are measured on the image, or given."""

    moves = False

    @abstractmethod
    def measure(self, x: Image) -> Figures:
        """Return the two numbers of each part of an image. Differentiable."""

    @abstractmethod
    def change(self, x: Image, figures: Figures) -> Image:
        """Return the changed image. Differentiable."""

    def place(self, x: Image, affine: np.ndarray, hold: bool) -> tuple[Placed, np.ndarray]:
        """Bind the step to an image; see Step."""
        if not hold:
            return Changed(self, None), affine
        with torch.no_grad():
            return Changed(self, self.measure(x)), affine

    def clips(self, x: Image) -> list[tuple[float, float]] | None:
        """Return, per channel, the values outside of which all count as the same; None where there are none."""
        return None


@dataclass(frozen=True, eq=False)
class Changed(Unmoved):
    """A bound change of intensities.

    Attributes:
        step: The step.
        figures: What changes every image; None measures each.
    """

    step: Intensity
    figures: Figures | None

    def apply(self, x: Image) -> Image:
        """Change an image."""
        return self.step.change(x, self.step.measure(x) if self.figures is None else self.figures)


@dataclass(frozen=True)
class ScaleRange(Intensity):
    """Brings one range of values linearly to another.

    Attributes:
        low: The value that becomes `bottom`.
        high: The value that becomes `top`.
        bottom: None leaves the range 0 to 1.
        top: None leaves the range 0 to 1.
        clip: Whether values outside become the nearest end.
    """

    low: float
    high: float
    bottom: float | None = None
    top: float | None = None
    clip: bool = False

    def measure(self, x: Image) -> Figures:
        """Return the given range."""
        return ((self.low, self.high),)

    def change(self, x: Image, figures: Figures) -> Image:
        """Change an image."""
        ((low, high),) = figures
        return to_range(x, low, high, (self.bottom, self.top), self.clip)

    def clips(self, x: Image) -> list[tuple[float, float]] | None:
        """Return the range, if values outside of it are clipped."""
        if not self.clip or self.top is None:
            return None
        return [(min(self.low, self.high), max(self.low, self.high))] * len(x)


@dataclass(frozen=True)
class ScalePercentiles(Intensity):
    """Brings the range between two percentiles of the image linearly to another.

    Attributes:
        lower: The lower percentile, 0 to 100.
        upper: The upper one.
        bottom: What the lower one becomes; None leaves the range 0 to 1.
        top: What the upper one becomes.
        clip: Whether values outside become the nearest end.
        each: Whether each channel has its own percentiles.
    """

    lower: float
    upper: float
    bottom: float | None = None
    top: float | None = None
    clip: bool = False
    each: bool = False

    def measure(self, x: Image) -> Figures:
        """Return the percentiles."""
        return tuple((percentile(part, self.lower), percentile(part, self.upper)) for part in _parts(x, self.each))

    def change(self, x: Image, figures: Figures) -> Image:
        """Change an image."""
        ends = (self.bottom, self.top)
        return _joined(x, self.each, [to_range(p, a, b, ends, self.clip) for p, a, b in _with(x, self.each, figures)])

    def clips(self, x: Image) -> list[tuple[float, float]] | None:
        """Return the percentiles, if values outside of them are clipped."""
        if not self.clip or self.top is None:
            return None
        found = [(_plain(low), _plain(high)) for low, high in self.measure(x)]
        return found if self.each else found * len(x)


@dataclass(frozen=True)
class Scale(Intensity):
    """Brings the range of the image to another, or multiplies it.

    Attributes:
        bottom: What the smallest value becomes; with `top` None the range is 0 to 1.
        top: What the largest value becomes.
        factor: Where both are None, the image is multiplied by 1 + factor.
        each: Whether each channel has its own range.
    """

    bottom: float | None = 0.0
    top: float | None = 1.0
    factor: float | None = None
    each: bool = False

    def measure(self, x: Image) -> Figures:
        """Return the smallest and the largest value."""
        return tuple((part.amin(), part.amax()) for part in _parts(x, self.each))

    def change(self, x: Image, figures: Figures) -> Image:
        """Change an image."""
        if self.bottom is None and self.top is None:
            return x if self.factor is None else x * (1 + self.factor)
        return _joined(x, self.each, [self._scaled(p, a, b) for p, a, b in _with(x, self.each, figures)])

    def _scaled(self, x: Tensor, low: Figure, high: Figure) -> Tensor:
        if _plain(low) == _plain(high):
            return x * self.bottom if self.bottom is not None else x
        found = (x - low) / (high - low)
        if self.bottom is None or self.top is None:
            return found
        return found * (self.top - self.bottom) + self.bottom


@dataclass(frozen=True)
class Normalize(Intensity):
    """Subtracts a mean and divides by a standard deviation.

    Attributes:
        mean: What is subtracted, per channel or one for all; None for the image's own mean.
        std: What it is divided by; None for the image's own standard deviation.
        nonzero: Whether only voxels that are not 0 count, and are changed.
        each: Whether each channel has its own numbers.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    nonzero: bool = False
    each: bool = False

    def measure(self, x: Image) -> Figures:
        """Return mean and standard deviation, of which one or both may be given."""
        found: list[tuple[Figure, Figure]] = []
        for given in (self.mean, self.std):
            if self.each and given is not None and len(given) != len(x):
                raise UserError(f"the volume has {len(x)} channels, but NormalizeIntensityd has {len(given)} numbers")
        for place, part in enumerate(_parts(x, self.each)):
            values = part[part != 0] if self.nonzero else part
            mean: Figure = self.mean[place] if self.mean is not None else _of(values, torch.mean, 0.0)
            std: Figure = self.std[place] if self.std is not None else _of(values, _deviation, 1.0)
            found.append((mean, 1.0 if _plain(std) == 0 else std))
        return tuple(found)

    def change(self, x: Image, figures: Figures) -> Image:
        """Change an image."""
        parts = []
        for part, mean, std in _with(x, self.each, figures):
            changed = (part - mean) / std
            parts.append(torch.where(part != 0, changed, part) if self.nonzero else changed)
        return _joined(x, self.each, parts)


def to_range(x: Tensor, low: Figure, high: Figure, ends: tuple[float | None, float | None], clip: bool) -> Tensor:
    """Bring a range of values linearly to another. Differentiable.

    Args:
        x: The values.
        low: The lower end of the range.
        high: The upper end.
        ends: What these become; None for 0 and 1.
        clip: Whether values outside become the nearest end.
    """
    bottom, top = ends
    if _plain(low) == _plain(high):
        return x - low if bottom is None else x - low + bottom
    found = (x - low) / (high - low)
    if bottom is not None and top is not None:
        found = found * (top - bottom) + bottom
    return found.clamp(bottom, top) if clip and ends != (None, None) else found


def percentile(x: Shaped[Tensor, "*any"], percent: float) -> Tensor:
    """Return a percentile of all values, interpolated linearly. Differentiable.

    Args:
        x: The values.
        percent: 0 to 100.
    """
    if x.numel() <= _MANY and x.dtype == torch.float32:
        return torch.quantile(x, percent / 100)
    flat = x.reshape(-1)
    rank = percent / 100 * (len(flat) - 1)
    low = int(rank)
    values = [torch.kthvalue(flat, min(place, len(flat) - 1) + 1).values.to(wide_type(x)) for place in (low, low + 1)]
    return (values[0] + (values[1] - values[0]) * (rank - low)).to(x.dtype)


def _of(values: Tensor, measure: Callable[[Tensor], Tensor], empty: float) -> Figure:
    return measure(values) if values.numel() else empty


def _deviation(values: Tensor) -> Tensor:
    """The standard deviation with the number of values in the denominator; a constant has no slope."""
    found = torch.std(values, correction=0)  # its square may be too large or too small for the number type
    return found.detach() * 0 if _plain(found) == 0 else found


def _plain(figure: Figure) -> float:
    return float(figure.detach() if isinstance(figure, Tensor) else figure)


def _parts(x: Tensor, each: bool) -> Sequence[Tensor]:
    return list(x) if each else [x]


def _with(x: Tensor, each: bool, figures: Figures) -> list[tuple[Tensor, Figure, Figure]]:
    return [(part, *pair) for part, pair in zip(_parts(x, each), figures, strict=True)]


def _joined(x: Tensor, each: bool, parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)) if each else parts[0]
