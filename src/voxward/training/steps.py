"""What one training step does with a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from voxward.core.types import Images, Labels
from voxward.losses.dice_ce import Loss


@dataclass(frozen=True, eq=False)
class StandardStep:
    """One forward, one backward, one update."""

    fabric: Fabric
    network: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    clip_gradient_norm: float | None

    def __call__(self, images: Images, labels: Labels) -> Tensor:
        """Update the weights; returns the detached loss, still on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.network(images), labels)
        self.fabric.backward(loss)
        if self.clip_gradient_norm is not None:
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=self.clip_gradient_norm)
        self.optimizer.step()
        return loss.detach()
