"""A model that is run on noisy volumes, which an attack sees through the mean over draws (expectation over noise)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.attacks.random_models import Averaged
from voxward.core.devices import wide, wide_type
from voxward.core.model import Box, Inputs, Objective, Scores, Swept, Truth, Values, VolumeModel, Wrapped


@dataclass(frozen=True, eq=False)
class Smoothed(Wrapped):
    """A model that adds Gaussian noise to every volume before it looks at it; each call draws other noise.

    Attributes:
        inner: The model.
        deviation: The standard deviation in intensities, which broadcasts over the volumes (b, c, *spatial); 0 where a
            voxel gets no noise.
        source: The source of the noise, on the CPU.
    """

    inner: VolumeModel
    deviation: Tensor
    source: torch.Generator

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Return logits, objective values and gradients at a noisy volume; see `VolumeModel.value_and_grad`."""
        return self.inner.value_and_grad(self._noisy(volume), target, objective)

    def logits(self, volume: Inputs) -> Scores:
        """Return the logits of a noisy volume; see `VolumeModel.logits`."""
        return self.inner.logits(self._noisy(volume))

    def sweep(self, volume: Inputs) -> Swept:
        """Return the logits of a noisy volume, with no memo: the next call draws other noise everywhere."""
        return Swept(volume, self.logits(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Return the logits of a noisy volume, as a whole; see `sweep`."""
        return self.sweep(volume)

    def _noisy(self, volume: Inputs) -> Inputs:
        drawn = torch.randn(volume.shape, generator=self.source, dtype=torch.float64)
        noise = wide(self.deviation) * drawn.to(volume.device, wide_type(volume))
        return (wide(volume) + noise).to(volume.dtype)


def smoothed(model: VolumeModel, deviation: Tensor, seed: int, draws: int) -> VolumeModel:
    """Return a model whose every answer is the mean over draws of Gaussian noise.

    Args:
        model: The model.
        deviation: The standard deviation in intensities; see `Smoothed`.
        seed: The seed of the noise.
        draws: The number of draws for each answer, at least 1.
    """
    return Averaged(Smoothed(model, deviation, torch.Generator().manual_seed(seed)), draws)
