"""Training steps: the update of the weights on one batch. The steps that harden a network are in `training.defence`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.types import Images, Labels
from voxward.training.learner import Learner
from voxward.training.origin import Origin
from voxward.training.share import Share


@dataclass(frozen=True, eq=False)
class StepInput:
    """An augmented batch on the device of the run.

    Args:
        images: The patches (b, c, d, h, w), normalised.
        labels: The class indices (b, d, h, w).
        ranges: The intensity range (b, c, 2) of each channel of each case, in the unit of the images, as
            `data.loader.PatchBatch` describes it.
        number: The number of the training step, counted from 0 over the whole run.
        done: The share of the run that is done, from 0 to 1.
        generator: The random numbers of the batch of all processes, on the CPU.
        share: The part of that batch that this process takes; None for all of it.
        origin: How the intensities of the patches came about from those of their files; None for a step that does not
            ask for it, and for patches that have no file.
    """

    images: Images
    labels: Labels
    ranges: Float[Tensor, "b c 2"]
    number: int
    done: float
    generator: torch.Generator
    share: Share | None = None
    origin: Origin | None = None

    def rand(self) -> Float[Tensor, " b"]:
        """Draw a number in [0, 1) for each patch, which does not depend on the number of processes."""
        share = self.share or Share(len(self.images))
        return torch.rand(share.total, generator=self.generator)[share.places]

    def generators(self) -> tuple[torch.Generator, ...]:
        """Return a generator for each patch, which does not depend on the number of processes."""
        share = self.share or Share(len(self.images))
        seeds = torch.randint(2**62, (share.total,), generator=self.generator)[share.places]
        return tuple(torch.Generator().manual_seed(seed) for seed in seeds.tolist())


@runtime_checkable
class Step(Protocol):
    """A training step, as the training loop calls it."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Return the names of the values that a call returns; the first one is the training loss."""
        ...

    @property
    def updates(self) -> int:
        """Return how often a call moves the weights; an epoch has fewer batches by this factor."""
        ...

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Update the weights.

        Args:
            batch: An augmented batch on the device of the run.

        Returns:
            The values that `figures` names, on the device and detached; NaN where one was not measured.
        """
        ...

    def state(self) -> Mapping[str, Tensor]:
        """Return the tensors with which `restore` goes on as if there had been no interruption.

        The tensors are those of all processes, so all processes have to call this method.
        """
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the tensors that `state` returned.

        Args:
            state: The tensors of all processes, by name.
        """
        ...


@runtime_checkable
class HardeningStep(Step, Protocol):
    """A training step that hardens a network against changes of its patches."""

    @property
    def reads_origin(self) -> bool:
        """Return whether the step needs `StepInput.origin`."""
        ...

    def challenge(self, batch: StepInput) -> Images:
        """Return a batch changed as the step hardens against, on which the robust score of a validation is measured.

        Args:
            batch: A batch of validation patches. The network is in evaluation mode.
        """
        ...


class Stateless:
    """A step that keeps nothing between its calls."""

    def state(self) -> Mapping[str, Tensor]:
        """Return no tensors, because there is nothing to keep."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing, because nothing was kept."""


@dataclass(frozen=True, eq=False)
class StandardStep(Stateless):
    """A plain training step: one forward pass, one backward pass and one update of the weights."""

    learner: Learner
    figures = ("training_loss",)
    updates = 1

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Update the weights once and return the loss."""
        self.learner.optimizer.zero_grad(set_to_none=True)
        loss = self.learner.supervise(self.learner.network(batch.images), batch.labels)
        self.learner.update(loss)
        return loss.detach()[None]
