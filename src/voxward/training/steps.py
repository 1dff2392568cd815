"""What one training step does with a batch; those that harden are in training.defence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from voxward.core.labels import LabelSet
from voxward.core.model import Head
from voxward.core.types import Images, Labels
from voxward.losses.deep import loss_by_case
from voxward.losses.types import Outputs, SupervisedLoss


@dataclass(frozen=True, eq=False)
class StepInput:
    """An augmented batch on the device, with what the batch was before augmentation.

    windows: (b, c, 2), see PatchBatch. number: the global training step. done: the share of the run that is done.
    generator: on the CPU, the batch's own.
    """

    images: Images
    labels: Labels
    windows: Float[Tensor, "b c 2"]
    number: int
    done: float
    generator: torch.Generator


@runtime_checkable
class Step(Protocol):
    """What the training loop asks of a step."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of what a call returns; the first is the training loss."""
        ...

    @property
    def updates(self) -> int:
        """How often a call moves the weights: an epoch has that many fewer batches."""
        ...

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Update the weights; returns detached figures, still on the device; NaN where one was not measured."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """What `restore` needs, in every process, to go on as if there had been no interruption.

        Of all processes, and to be called by all of them.
        """
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`."""
        ...


@dataclass(eq=False)
class Trainer:
    """The objects that every step works with. network: as Fabric wrapped it. labels: None for plain classes.

    optimizer: another one after a restart. case_losses: of the batch supervised last, each case's by itself, (b,); of
    hardening that of the perturbed patches (free: of the last replay), in TRADES that of the clean ones.
    """

    fabric: Fabric
    network: nn.Module
    optimizer: torch.optim.Optimizer
    loss: SupervisedLoss
    clip_gradient_norm: float | None
    labels: LabelSet | None = None
    case_losses: Tensor | None = field(default=None, init=False)

    @property
    def head(self) -> Head:
        """How the network's outputs are read."""
        return "softmax" if self.labels is None else self.labels.head

    def target(self, index: Labels) -> Tensor:
        """Class indices in the form that objectives compare with the network's outputs."""
        return index.long() if self.labels is None else self.labels.target(index)

    def supervise(self, outputs: Outputs, labels: Labels) -> Tensor:
        """The loss that the weights learn on; `case_losses` are noted on the way."""
        loss = self.loss(outputs, labels)
        # That of a batch of several may be no mean of theirs (Dice over the whole batch), and theirs cost no forward.
        self.case_losses = loss.detach()[None] if len(labels) == 1 else loss_by_case(self.loss, outputs, labels)
        return loss

    def update(self, loss: Tensor) -> None:
        """Backward, clip, and move the weights; their gradients are left for whoever wants to look at them."""
        self.fabric.backward(loss)
        if self.clip_gradient_norm is not None:
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=self.clip_gradient_norm)
        self.optimizer.step()


class Stateless:
    """A step that has nothing to keep between its calls."""

    def state(self) -> Mapping[str, Tensor]:
        """See Step."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See Step."""


@dataclass(frozen=True, eq=False)
class StandardStep(Stateless):
    """One forward, one backward, one update."""

    trainer: Trainer
    figures = ("training_loss",)
    updates = 1

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """See Step."""
        self.trainer.optimizer.zero_grad(set_to_none=True)
        loss = self.trainer.supervise(self.trainer.network(batch.images), batch.labels)
        self.trainer.update(loss)
        return loss.detach()[None]
