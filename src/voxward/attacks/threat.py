"""What an attacker may do: the norm, the size and the unit of a perturbation, and the box of legal intensities."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Inputs, Values

Norm = Literal["linf", "l2"]
Unit = Literal["range", "native"]
Reference = Literal["raw", "window"]


@dataclass(frozen=True)
class ThreatModel:
    """The ball of legal perturbations, in intensities before normalisation.

    bounds: per channel the intensity window (low, high) that gives eps its unit (CT: the dataset's percentiles; MR: the
    case's); one pair stands for all channels. eps: in unit `range` a share of high - low, in 0..1; in unit `native` an
    intensity (HU or raw). For `l2` it bounds the Euclidean norm over all voxels and channels, in the same unit.
    reference: `raw` perturbs the stored volume x inside [min(low, min x), max(high, max x)]; `window` (the papers)
    perturbs clip(x, low, high) inside [low, high]. limits: the least and greatest value of the file's number type.
    zeros: per channel, whether voxels that are exactly 0 stay 0; () is none. By convention they are no tissue, and the
    pipeline takes crop box and statistics from the others: a perturbation there would break it, as noise does.
    """

    eps: float
    norm: Norm = "linf"
    unit: Unit = "range"
    reference: Reference = "raw"
    bounds: tuple[tuple[float, float], ...] | None = None
    limits: tuple[float, float] | None = None
    zeros: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise UserError(f"eps must be a finite number of at least 0, got {self.eps}")
        if self.unit == "range" and self.norm == "linf" and self.eps > 1:
            raise UserError(f"eps in unit 'range' is a share of the intensity window, 0 to 1, got {self.eps}")
        legal = {"norm": ("linf", "l2"), "unit": ("range", "native"), "reference": ("raw", "window")}
        for name, values in legal.items():
            if getattr(self, name) not in values:
                raise UserError(f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}")
        for low, high in self.bounds or ():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UserError(f"bounds must be finite with low < high, got ({low}, {high})")

    def with_eps(self, eps: float) -> ThreatModel:
        """The same with another size."""
        return replace(self, eps=eps)

    def within(self, bounds: tuple[tuple[float, float], ...]) -> ThreatModel:
        """The same for a case with these intensity windows."""
        return replace(self, bounds=bounds)

    def ball(self, volume: Inputs) -> Ball:
        """The legal volumes around a batch. Raises ValueError when `bounds` is missing or not one per channel."""
        if self.bounds is None:
            raise UserError("the threat model has no bounds: give the intensity window (low, high) of each channel")
        if len(self.bounds) not in (1, volume.shape[1]):
            raise UserError(f"bounds must be one pair or one per channel ({volume.shape[1]}), got {len(self.bounds)}")
        if len(self.zeros) not in (0, volume.shape[1]):
            raise UserError(f"zeros must be empty or one per channel ({volume.shape[1]}), got {len(self.zeros)}")
        kept = (volume == 0) & _per_channel(list(map(float, self.zeros)), volume).bool() if any(self.zeros) else None
        low, high = _per_channel([b[0] for b in self.bounds], volume), _per_channel([b[1] for b in self.bounds], volume)
        unit = high - low
        if self.reference == "window":
            volume = volume.clamp(low, high) if kept is None else volume.clamp(low, high).masked_fill(kept, 0.0)
        else:
            axes = tuple(range(2, volume.ndim))
            low = torch.minimum(low, volume.amin(axes, keepdim=True))
            high = torch.maximum(high, volume.amax(axes, keepdim=True))
        if self.limits is not None:
            low, high = low.clamp_min(self.limits[0]), high.clamp_max(self.limits[1])
        if kept is not None and bool(kept.any()):
            low, high = (torch.where(kept, volume, end) for end in (low, high))
        eps = self.eps * unit if self.unit == "range" else self.eps * torch.ones_like(unit)
        return Ball(self.norm, volume, eps, low, high, unit if self.unit == "range" else torch.ones_like(unit))


@dataclass(frozen=True, eq=False)
class Ball:
    """The legal volumes around `reference` (b, c, *spatial).

    eps, low, high, unit: broadcast over it, in intensities. `unit` is what a perturbation is measured in (the window's
    width, or 1), so eps = unit * (the threat model's eps).
    """

    norm: Norm
    reference: Inputs
    eps: Tensor
    low: Tensor
    high: Tensor
    unit: Tensor

    def scaled(self, factor: float) -> Ball:
        """The same with `factor` times the radius."""
        return replace(self, eps=self.eps * factor)

    def rows(self, index: Tensor) -> Ball:
        """The cases `index` (integers or a mask) of the batch."""
        pick = lambda x: x[index] if x.shape[0] == self.reference.shape[0] else x  # noqa: E731
        return Ball(self.norm, self.reference[index], *map(pick, (self.eps, self.low, self.high, self.unit)))

    def project(self, volume: Inputs) -> Inputs:
        """The nearest volume in the ball (l_inf), or in the ball and then in the box (l2)."""
        delta = volume - self.reference
        if self.norm == "linf":
            delta = torch.minimum(torch.maximum(delta, -self.eps), self.eps)
        else:
            radius = self.radius
            size = _rows(delta / self.unit, delta.ndim)
            delta = delta * torch.where(size > radius, radius / size.clamp_min(1e-30), torch.ones_like(size))
        return torch.minimum(torch.maximum(self.reference + delta, self.low), self.high)

    @property
    def radius(self) -> Tensor:
        """The threat model's eps, (b or 1, 1, ...): the same for all channels."""
        return (self.eps / self.unit)[:, :1]

    def step(self, gradient: Inputs) -> Inputs:
        """The steepest ascent direction of length 1 eps: eps * sign (l_inf) or eps * g / ||g|| (l2); 0 where g is."""
        if self.norm == "linf":
            return self.eps * gradient.sign()
        # In units, d/d(x / unit) = unit * d/dx.
        scaled = gradient * self.unit
        return self.eps * scaled / _rows(scaled, gradient.ndim).clamp_min(1e-30)

    def random(self, generator: torch.Generator) -> Inputs:
        """A random legal volume: uniform in the l_inf ball; a random direction and a uniform length for l2."""
        shape, device = self.reference.shape, self.reference.device
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64).to(device, self.reference.dtype) * 2 - 1
        if self.norm == "l2":
            length = torch.rand((shape[0],) + (1,) * (len(shape) - 1), generator=generator).to(drawn)
            drawn = length * drawn / _rows(drawn, drawn.ndim).clamp_min(1e-30)
        return self.project(self.reference + self.eps * drawn)

    def sign_noise(self, generator: torch.Generator) -> Inputs:
        """Random signs at the rim of the ball: the control that must not hurt a sound set-up."""
        drawn = torch.randint(0, 2, self.reference.shape, generator=generator).to(self.reference) * 2 - 1
        size = 1.0 if self.norm == "linf" else 1.0 / math.sqrt(drawn[0].numel())
        return self.project(self.reference + self.eps * drawn * size)

    def distance(self, volume: Inputs) -> Values:
        """The norm of the perturbation per case, in the unit of the threat model's eps."""
        delta = ((volume - self.reference) / self.unit).flatten(1)
        return delta.abs().amax(1) if self.norm == "linf" else torch.linalg.vector_norm(delta, dim=1)

    def holds(self, volume: Inputs, tolerance: float = 1e-6) -> Bool[Tensor, " b"]:
        """Per case, whether the volume is legal: within eps and the box, to `tolerance` units and one ulp."""
        ulp = torch.finfo(volume.dtype).eps * self.reference.abs().flatten(1).amax(1)
        slack = (tolerance * self.unit).flatten(1).amax(1) + ulp
        wide = slack.view(-1, *(1,) * (volume.ndim - 1))
        inside = ((volume >= self.low - wide) & (volume <= self.high + wide)).flatten(1).all(1)
        reach = self.radius.flatten() + slack / self.unit.flatten(1).amin(1)
        return inside & (self.distance(volume) <= reach)


def _per_channel(values: list[float], volume: Inputs) -> Float[Tensor, "1 channels ..."]:
    return torch.tensor(values, dtype=volume.dtype, device=volume.device).view(1, -1, *(1,) * (volume.ndim - 2))


def _rows(x: Tensor, ndim: int) -> Tensor:
    """The Euclidean norm of each case, ready to broadcast."""
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norm.view(-1, *(1,) * (ndim - 1))
