"""The network of a run and everything that changes it: optimiser, schedule, loss and running average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from voxward.core.labels import IGNORED, LabelSet
from voxward.core.model import Head
from voxward.core.types import Labels
from voxward.losses.deep import loss_by_case
from voxward.losses.types import Outputs, SupervisedLoss
from voxward.losses.whole import whole_batch
from voxward.training.averaging import WeightAverage
from voxward.training.schedule import Schedule
from voxward.training.share import total_over

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(eq=False)
class Learner:
    """A network with all that its training needs, on the device of the run.

    Every step of a training and the file that resumes it work with this one object. After a restart it holds a new
    optimiser.

    Args:
        fabric: The devices and the precision of the run.
        network: The network as Fabric wrapped it.
        optimizer: The optimiser as Fabric wrapped it.
        loss: The loss of the network's outputs, with or without auxiliary ones, and class indices.
        schedule: The factor on the initial learning rate over the course of the run.
        clip_gradient_norm: The largest norm of all gradients together, or None for no limit.
        labels: The classes or regions that are learnt, or None for plain classes.
        average: The running mean of the weights, or None for a recipe without averaging.
        new_optimizer: A function that makes the optimiser of a restart, or None for a recipe without restarts.

    Attributes:
        case_losses: The loss (b,) of each case of the batch that was supervised last. A hardening step measures it on
            the perturbed patches (`free`: of the last replay), and `trades` measures it on the clean ones.
            NaN for a patch without any annotated voxel.
    """

    fabric: Fabric
    network: nn.Module
    optimizer: torch.optim.Optimizer
    loss: SupervisedLoss
    schedule: Schedule
    clip_gradient_norm: float | None = None
    labels: LabelSet | None = None
    average: WeightAverage | None = None
    new_optimizer: Callable[[], torch.optim.Optimizer] | None = None
    case_losses: Tensor | None = field(default=None, init=False)

    @property
    def head(self) -> Head:
        """Return how the network's outputs are read: as classes that compete, or as regions."""
        return "softmax" if self.labels is None else self.labels.head

    def target(self, index: Labels) -> Tensor:
        """Return class indices (b, d, h, w) in the form that objectives compare with the network's outputs."""
        return index.long() if self.labels is None else self.labels.target(index)

    def annotated(self, index: Labels) -> Tensor | None:
        """Return which voxels of class indices (b, d, h, w) are annotated; None without an ignore label."""
        return None if self.labels is None or self.labels.ignore is None else index != IGNORED

    def supervise(self, outputs: Outputs, labels: Labels) -> Tensor:
        """Return the loss that the weights learn on, and note the loss of each case in `case_losses`.

        Args:
            outputs: The logits (b, k, d, h, w) of the network, or these followed by auxiliary ones.
            labels: The class indices (b, d, h, w).

        Returns:
            One value, which can be differentiated.
        """
        total = total_over(self.fabric)
        with whole_batch(total):
            loss = self.loss(outputs, labels)
        # The loss of a batch of several cases may not be the mean of their losses (Dice over the whole batch), and
        # the outputs that their own losses need are there already.
        alone = len(labels) == 1 and total is None
        self.case_losses = loss.detach()[None] if alone else loss_by_case(self.loss, outputs, labels)
        known = self.annotated(labels)
        if known is not None:  # a patch without any annotated voxel says nothing about its case
            self.case_losses = self.case_losses.where(known.flatten(1).any(1), torch.nan)
        return loss

    def update(self, loss: Tensor) -> None:
        """Compute the gradients of a loss, clip them, and move the weights; the gradients stay for who reads them."""
        self.fabric.backward(loss)
        if self.clip_gradient_norm is not None:
            self._clip(self.clip_gradient_norm)
        self.optimizer.step()

    def _clip(self, most: float) -> None:
        norm = self.fabric.clip_gradients(self.network, self.optimizer, max_norm=most, error_if_nonfinite=False)
        # In fp16 an overflow now and then is ordinary: the scaler leaves that update out, and scales less.
        scaled = getattr(self.fabric.strategy.precision, "scaler", None) is not None
        if norm is not None and not scaled and not bool(torch.isfinite(norm)):
            raise FloatingPointError(
                f"the norm of the gradients is {float(norm)}, so that they cannot be clipped "
                "(training.clip_gradient_norm)"
            )

    def restart(self) -> None:
        """Replace the optimiser by a new one, which has no memory of earlier steps."""
        assert self.new_optimizer is not None
        self.optimizer = self.new_optimizer()
