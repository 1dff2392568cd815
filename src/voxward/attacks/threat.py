"""What an attacker may do: the norm, the size and the unit of a perturbation, and the range of legal intensities."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxward.attacks.grid import Grid, Span
from voxward.core.devices import wide
from voxward.core.errors import UserError
from voxward.core.model import Inputs, Values

Norm = Literal["linf", "l2"]
Unit = Literal["range", "native"]
Reference = Literal["raw", "window"]


@dataclass(frozen=True)
class ThreatModel:
    """The legal perturbations of a volume, in its intensities before normalisation.

    Attributes:
        eps: The size of the perturbation, at least 0. In unit `range` it is a share of high - low (0 to 1 for `linf`),
            in unit `native` an intensity (HU or raw). For `linf` it bounds every voxel, for `l2` the Euclidean norm
            over all voxels and channels.
        norm: `linf` or `l2`.
        unit: `range` or `native`.
        reference: What is perturbed. `raw`: the stored volume x, inside [min(low, min x), max(high, max x)]. `window`:
            x clipped to the intensity range, clip(x, low, high), inside [low, high], as in the papers.
        bounds: The intensity range (low, high) of each channel, or one pair for all channels. It gives eps its unit:
            for CT the dataset's percentiles, for MR the case's.
        limits: The least and the greatest value of the file's number type; None: no limits.
        zeros: Per channel, whether voxels that are exactly 0 stay 0; empty: none do. By convention such voxels are no
            tissue, and the pipeline computes its crop box and statistics from the others. A perturbation there would
            break this, as noise does.
        steps: Per channel, the distance between two intensities that the file can hold: 1 for whole numbers, the slope
            for scaled ones; empty: any value. The volume itself must be such a file's. Attacks then evaluate and return
            volumes that the file can hold.

    Raises:
        UserError: A value is not among those named here.

    Example:
        >>> threat = voxward.ThreatModel(eps=8 / 255, bounds=((-100.0, 240.0),))
        >>> ball = threat.ball(volume)
        >>> noisy = ball.sign_noise(torch.Generator().manual_seed(0))
        >>> ball.distance(noisy)  # at most 8 / 255 per case
    """

    eps: float
    norm: Norm = "linf"
    unit: Unit = "range"
    reference: Reference = "raw"
    bounds: tuple[tuple[float, float], ...] | None = None
    limits: tuple[float, float] | None = None
    zeros: tuple[bool, ...] = ()
    steps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise UserError(f"eps must be a finite number of at least 0, got {self.eps}")
        if self.unit == "range" and self.norm == "linf" and self.eps > 1:
            raise UserError(
                f"eps in unit 'range' is a share of the intensity range and must be 0 to 1, got {self.eps:g}; in unit "
                "'native' (threat.unit=native) it is in HU or raw intensities"
            )
        legal = {"norm": ("linf", "l2"), "unit": ("range", "native"), "reference": ("raw", "window")}
        for name, values in legal.items():
            if getattr(self, name) not in values:
                raise UserError(f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}")
        for low, high in self.bounds or ():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UserError(f"bounds must be finite with low < high, got ({low}, {high})")
        if wrong := [step for step in self.steps if not (math.isfinite(step) and step > 0)]:
            raise UserError(f"steps must be finite and above 0, got {wrong[0]}")

    def with_eps(self, eps: float) -> ThreatModel:
        """Return the same threat model with another size of the perturbation.

        Args:
            eps: The size, in this threat model's unit.
        """
        return replace(self, eps=eps)

    def within(self, bounds: tuple[tuple[float, float], ...]) -> ThreatModel:
        """Return the same threat model with other intensity ranges, such as those of a case.

        Args:
            bounds: The intensity range (low, high) of each channel, or one pair for all channels.
        """
        return replace(self, bounds=bounds)

    def ball(self, volume: Inputs) -> Ball:
        """Return the legal volumes around a batch.

        Args:
            volume: Intensities (b, c, *spatial).

        Raises:
            UserError: `bounds` is missing, or `bounds`, `zeros` or `steps` do not fit the number of channels.
        """
        if self.bounds is None:
            raise UserError("the threat model has no bounds: give the intensity range (low, high) of each channel")
        if len(self.bounds) not in (1, volume.shape[1]):
            raise UserError(f"bounds must be one pair or one per channel ({volume.shape[1]}), got {len(self.bounds)}")
        for name, values in (("zeros", self.zeros), ("steps", self.steps)):
            if len(values) not in (0, volume.shape[1]):
                raise UserError(f"{name} must be empty or one per channel ({volume.shape[1]}), got {len(values)}")
        grid = Grid(volume, _per_channel(list(self.steps), volume)) if self.steps else None
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
        return Ball(self.norm, volume, eps, low, high, unit if self.unit == "range" else torch.ones_like(unit), grid)


@dataclass(frozen=True, eq=False)
class Ball:
    """The legal volumes around a reference.

    Attributes:
        norm: `linf` or `l2`.
        reference: The unperturbed volumes (b, c, *spatial).
        eps: The radius, in intensities; like the three below, it broadcasts over `reference`.
        low: The least legal intensity.
        high: The greatest legal intensity.
        unit: What a perturbation is measured in, the width of the intensity range or 1. So eps = unit * (the threat
            model's eps).
        grid: The intensities that the file can hold; None: it holds any.
    """

    norm: Norm
    reference: Inputs
    eps: Tensor
    low: Tensor
    high: Tensor
    unit: Tensor
    grid: Grid | None = None

    def scaled(self, factor: float) -> Ball:
        """Return the ball with another radius.

        Args:
            factor: What the radius is multiplied by.
        """
        return replace(self, eps=self.eps * factor)

    def rows(self, index: Tensor) -> Ball:
        """Return the ball around some cases of the batch.

        Args:
            index: The cases, as integers or as a mask (b).
        """
        pick = lambda x: x[index] if x.shape[0] == self.reference.shape[0] else x  # noqa: E731
        grid = None if self.grid is None else self.grid.rows(index)
        eps, low, high, unit = map(pick, (self.eps, self.low, self.high, self.unit))
        return Ball(self.norm, self.reference[index], eps, low, high, unit, grid)

    def project(self, volume: Inputs) -> Inputs:
        """Return the nearest legal volume; for `l2` it is the nearest one in the ball, then clipped to the box.

        Args:
            volume: Intensities (b, c, *spatial).
        """
        delta = volume - self.reference
        if self.norm == "linf":
            delta = torch.minimum(torch.maximum(delta, -self.eps), self.eps)
        else:
            radius = self.radius
            size = _rows(delta / self.unit, delta.ndim)
            delta = delta * torch.where(size > radius, radius / size.clamp_min(1e-30), torch.ones_like(size))
        return torch.minimum(torch.maximum(self.reference + delta, self.low), self.high)

    def stored(self, volume: Inputs, gradient: Inputs | None = None) -> Inputs:
        """Return the nearest legal volume that the file can hold; where it can hold any, the volume as it is.

        For `l2` every voxel becomes the nearest intensity. Where that leaves the ball, as many of them as fit do, the
        nearest first, and the others are rounded towards the reference.

        Args:
            volume: Intensities (b, c, *spatial).
            gradient: The gradient of an objective that is to rise. Where it is given, a voxel between two intensities
                becomes the one that the gradient's sign points to; for `l2` the greatest gradients come first.

        Returns:
            A legal volume (b, c, *spatial). A voxel is that of the reference where no intensity that the file can hold
            lies within the ball, as may be at the ends of a clipped reference.
        """
        if self.grid is None:
            return volume
        if self.norm == "linf":
            return self.grid.nearest(volume, Span(self.reference, self.eps, self.low, self.high), gradient)
        volume = self.project(volume)
        anywhere = Span(self.reference, torch.full_like(self.eps, torch.inf), self.low, self.high)
        wanted = self.grid.nearest(volume, anywhere, gradient)
        if bool(self._within(wanted).all()):
            return wanted
        safe = self.grid.inwards(volume, self.reference)
        worth = -(wanted - volume).abs() / self.grid.step if gradient is None else gradient.abs()
        return self._as_many_as_fit(wanted, safe, worth)

    @property
    def movable(self) -> bool:
        """Return whether the file can hold any volume of the ball but the reference."""
        return self.grid is None or bool((self.eps * (1 + 1e-6) >= self.grid.step).any())

    def writable(self, volume: Inputs) -> Bool[Tensor, " b"]:
        """Return per case (b) whether the file can hold a legal volume as it is.

        Args:
            volume: Legal intensities (b, c, *spatial).
        """
        return (self.stored(volume) == volume).flatten(1).all(1)

    def _as_many_as_fit(self, wanted: Inputs, safe: Inputs, worth: Inputs) -> Inputs:
        """The wanted voxels of greatest worth, as long as the l2 norm allows, and the safe ones elsewhere."""
        sizes = [wide(((x - self.reference) / self.unit).flatten(1)) ** 2 for x in (wanted, safe)]
        order = worth.flatten(1).argsort(1, descending=True)
        spent = sizes[1].sum(1, keepdim=True) + (sizes[0] - sizes[1]).gather(1, order).cumsum(1)
        fits = torch.zeros_like(order, dtype=torch.bool).scatter(1, order, spent <= wide(self.radius.flatten(1)) ** 2)
        found = torch.where(fits.view(wanted.shape), wanted, safe)
        return torch.where(self._within(found).view(-1, *(1,) * (wanted.ndim - 1)), found, safe)

    def _within(self, volume: Inputs) -> Bool[Tensor, " b"]:
        """Whether the norm of the perturbation is at most eps, up to the rounding of a sum."""
        return self.distance(volume) <= self.radius.flatten() * (1 + 4 * torch.finfo(volume.dtype).eps)

    @property
    def radius(self) -> Tensor:
        """Return the threat model's eps (b or 1, 1, ...), which is the same for all channels."""
        return (self.eps / self.unit)[:, :1]

    def step(self, gradient: Inputs) -> Inputs:
        """Return the direction of steepest ascent with a length of one eps.

        Args:
            gradient: The gradient (b, c, *spatial).

        Returns:
            eps * sign(g) for `linf`, eps * g / ||g|| for `l2`; 0 where the gradient is 0.
        """
        if self.norm == "linf":
            return self.eps * gradient.sign()
        # In units, d/d(x / unit) = unit * d/dx.
        scaled = gradient * self.unit
        return self.eps * scaled / _rows(scaled, gradient.ndim).clamp_min(1e-30)

    def random(self, generator: torch.Generator) -> Inputs:
        """Return a random legal volume.

        It is uniform in the ball for `linf`. For `l2` it has a random direction and a uniform length.

        Args:
            generator: The source of the random numbers, on the CPU.
        """
        shape, device = self.reference.shape, self.reference.device
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64).to(device, self.reference.dtype) * 2 - 1
        if self.norm == "l2":
            length = torch.rand((shape[0],) + (1,) * (len(shape) - 1), generator=generator).to(drawn)
            drawn = length * drawn / _rows(drawn, drawn.ndim).clamp_min(1e-30)
        return self.project(self.reference + self.eps * drawn)

    def sign_noise(self, generator: torch.Generator) -> Inputs:
        """Return the reference with random signs at the rim of the ball, a control that must not hurt a sound system.

        Args:
            generator: The source of the signs, on the CPU.
        """
        drawn = torch.randint(0, 2, self.reference.shape, generator=generator).to(self.reference) * 2 - 1
        size = 1.0 if self.norm == "linf" else 1.0 / math.sqrt(drawn[0].numel())
        return self.project(self.reference + self.eps * drawn * size)

    def distance(self, volume: Inputs) -> Values:
        """Return the norm of the perturbation per case (b), in the unit of the threat model's eps.

        Args:
            volume: Intensities (b, c, *spatial).
        """
        delta = ((volume - self.reference) / self.unit).flatten(1)
        return delta.abs().amax(1) if self.norm == "linf" else torch.linalg.vector_norm(delta, dim=1)

    def holds(self, volume: Inputs, tolerance: float = 1e-6) -> Bool[Tensor, " b"]:
        """Return per case (b) whether a volume is legal, that is within eps and the box.

        Args:
            volume: Intensities (b, c, *spatial).
            tolerance: The allowed excess in units; one ulp is allowed on top of it.
        """
        ulp = torch.finfo(volume.dtype).eps * self.reference.abs().flatten(1).amax(1)
        slack = (tolerance * self.unit).flatten(1).amax(1) + ulp
        wide = slack.view(-1, *(1,) * (volume.ndim - 1))
        inside = ((volume >= self.low - wide) & (volume <= self.high + wide)).flatten(1).all(1)
        reach = self.radius.flatten() + slack / self.unit.flatten(1).amin(1)
        return inside & (self.distance(volume) <= reach)


def _per_channel(values: list[float], volume: Inputs) -> Float[Tensor, "1 channels ..."]:
    return torch.tensor(values, dtype=volume.dtype, device=volume.device).view(1, -1, *(1,) * (volume.ndim - 2))


def _rows(x: Tensor, ndim: int) -> Tensor:
    """The Euclidean norm of each case, shaped to broadcast."""
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norm.view(-1, *(1,) * (ndim - 1))
