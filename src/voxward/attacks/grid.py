"""The intensities that a file of whole numbers can hold, and which of them stands for a computed one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from voxward.core.model import Inputs

# How many ulps the number of steps in a radius may be off: the radius and the step are rounded themselves.
_ULPS = 4


@dataclass(frozen=True, eq=False)
class Grid:
    """The intensities that a file can hold: those that lie whole steps from a volume that it does hold.

    Attributes:
        origin: A volume that the file holds (b, c, *spatial).
        step: The distance between two neighbours, above 0 (1, c, 1, ...).
    """

    origin: Inputs
    step: Tensor

    def rows(self, index: Tensor) -> Grid:
        """Return the grid of some cases of the batch.

        Args:
            index: The cases, as integers or as a mask (b).
        """
        return replace(self, origin=self.origin[index])

    def nearest(self, volume: Inputs, within: Span, gradient: Inputs | None = None) -> Inputs:
        """Return for each voxel the nearest intensity of the grid within a span.

        Args:
            volume: Intensities (b, c, *spatial).
            within: Which intensities may be taken.
            gradient: Where it is given, a voxel between two intensities becomes the one that its sign points to.

        Returns:
            Intensities (b, c, *spatial); the span's reference where no intensity of the grid lies within the span.
        """
        least, most = self._ends(within)
        steps = torch.minimum(torch.maximum(self._pick(volume, gradient), least), most)
        return torch.where(least <= most, self.origin + steps * self.step, within.reference)

    def inwards(self, volume: Inputs, reference: Inputs) -> Inputs:
        """Return for each voxel the nearest intensity of the grid between the voxel and its reference.

        Args:
            volume: Intensities (b, c, *spatial).
            reference: The unperturbed ones (b, c, *spatial).

        Returns:
            Intensities (b, c, *spatial); the reference where no intensity of the grid lies between.
        """
        outwards = (volume - reference).sign()
        found = self.origin + self._pick(volume, -outwards) * self.step
        return torch.where((found - reference) * outwards >= 0, found, reference)

    def _pick(self, volume: Inputs, gradient: Inputs | None) -> Tensor:
        """The steps from the origin to the grid: the nearest, or the one in the direction of the gradient."""
        exact = (volume - self.origin) / self.step
        near = exact.round()
        if gradient is None:
            return near
        ulp = torch.finfo(volume.dtype).eps * torch.maximum(volume.abs(), self.origin.abs()) / self.step
        chosen = torch.where(gradient > 0, exact.ceil(), torch.where(gradient < 0, exact.floor(), near))
        return torch.where((exact - near).abs() <= 2 * ulp, near, chosen)

    def _ends(self, within: Span) -> tuple[Tensor, Tensor]:
        """The least and the greatest number of steps from the origin that end within a span.

        An excess of an ulp is rounding, as in `Ball.holds`: the ends themselves may be intensities of the grid.
        """
        small = torch.finfo(self.origin.dtype).eps
        shift, reach = within.reference - self.origin, within.eps * (1 + _ULPS * small)

        def end(of: Tensor, outwards: int) -> Tensor:
            return of - self.origin + outwards * small * torch.maximum(of.abs(), self.origin.abs())

        least = torch.maximum(shift - reach, end(within.low, -1)) / self.step
        most = torch.minimum(shift + reach, end(within.high, 1)) / self.step
        return least.ceil(), most.floor()


@dataclass(frozen=True, eq=False)
class Span:
    """Which intensities each voxel may take; everything broadcasts over the reference.

    Attributes:
        reference: The unperturbed intensities (b, c, *spatial).
        eps: How far from the reference.
        low: The least intensity.
        high: The greatest intensity.
    """

    reference: Inputs
    eps: Tensor
    low: Tensor
    high: Tensor
