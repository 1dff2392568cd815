"""Training on Gaussian noise, which a certificate by randomised smoothing needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.recipe import Defence
from voxward.core.types import Images
from voxward.training.defence.perturbation import clean_loss, drawn_perturbed, gradient_norm, grown
from voxward.training.learner import Learner
from voxward.training.steps import Stateless, StepInput


def with_noise(batch: StepInput, sigma: float) -> Images:
    """Return a batch with Gaussian noise in its files, as the preparation would make of them.

    Every voxel and channel gets noise of its own but air, see `training.origin.Origin`. It is drawn on the CPU, so that
    it is the same on every device and for any number of processes.

    Args:
        batch: The batch.
        sigma: The standard deviation, as a share of the intensity range of each channel.
    """
    images = batch.images
    drawn = torch.stack([torch.randn(images.shape[1:], generator=own) for own in batch.generators()]).to(images)
    width = (batch.ranges[..., 1] - batch.ranges[..., 0]).to(images)[..., None, None, None]
    noisy = images + sigma * width * drawn
    return noisy if batch.origin is None else batch.origin.prepared(noisy, images, batch.ranges)


@dataclass(frozen=True, eq=False)
class NoiseStep(Stateless):
    """Training on patches with Gaussian noise (Cohen et al. 2019).

    The standard deviation is always that of the defence, and not drawn from below it: a certificate for it is computed
    from predictions under just this noise. (In a warm-up it grows from 0.)

    Attributes:
        learner: The network and everything that changes it.
        defence: The recipe's part on the defence.
        figures: The names of the values that a call returns.
        updates: How often a call moves the weights.
        reads_origin: Whether a call needs the origin of the batch.
    """

    learner: Learner
    defence: Defence
    figures = ("training_loss", "clean_loss", "gradient_norm")
    updates = 1
    reads_origin: ClassVar[bool] = True

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Add noise to the batch, update the weights once, and return the figures of the batch."""
        noisy = with_noise(batch, self.defence.sigma * grown(self.defence, batch.done))
        x = torch.where(drawn_perturbed(self.defence, batch), noisy, batch.images)
        clean = clean_loss(self.learner, batch)
        self.learner.optimizer.zero_grad(set_to_none=True)
        value = self.learner.supervise(self.learner.network(x), batch.labels)
        self.learner.update(value)
        return torch.stack([value.detach(), clean, gradient_norm(self.learner)])

    def challenge(self, batch: StepInput) -> Images:
        """Add noise at the full standard deviation to a batch; see `HardeningStep`."""
        return with_noise(batch, self.defence.sigma)
