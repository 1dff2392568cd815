"""Free adversarial training: every batch is used several times, and each backward pass moves the perturbation, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.recipe import Defence
from voxward.training.defence.perturbation import (
    FIGURES,
    InBall,
    clean_loss,
    drawn_perturbed,
    eps_now,
    measured,
    patch_ball,
)
from voxward.training.learner import Learner
from voxward.training.share import share_of
from voxward.training.steps import StepInput


@dataclass(eq=False)
class FreeStep(InBall):
    """Free adversarial training (Shafahi et al. 2019): every batch is used several times in a row.

    Each backward pass moves both the weights and the perturbation. Every position in the batch has a perturbation of
    its own, which is kept from batch to batch as a share of eps in [-1, 1] and starts at 0. (In the code that the ROG
    authors released, the step was a floor division that came to 0, so that nothing was ever perturbed.)

    Every process of a distributed training has the perturbations of its own positions in the batch, and a resumed run
    gives them back, also to another number of processes.

    Attributes:
        learner: The network and everything that changes it.
        defence: The recipe's part on the defence.
        share: The perturbation of every voxel (b, c, d, h, w), as a share of eps; None before the first batch.
        figures: The names of the values that a call returns.
    """

    learner: Learner
    defence: Defence
    share: Tensor | None = field(default=None, init=False)
    figures = FIGURES

    @property
    def updates(self) -> int:
        """Return the number of replays, because each replay moves the weights once."""
        return self.defence.replays

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Update weights and perturbation once per replay and return the figures of the batch."""
        ball = patch_ball(batch.images, batch.ranges, eps_now(self.defence, batch.done))
        if self.share is None or self.share.shape != batch.images.shape:
            self.share = torch.zeros_like(batch.images)
        perturbed = drawn_perturbed(self.defence, batch)
        total = torch.zeros((), device=batch.images.device)
        clean = clean_loss(self.learner, batch)
        for _ in range(self.defence.replays):
            x = ball.project(ball.reference + self.share * ball.eps)
            leaf = torch.where(perturbed, x, batch.images).requires_grad_()
            self.learner.optimizer.zero_grad(set_to_none=True)
            loss = self.learner.supervise(self.learner.network(leaf), batch.labels)
            self.learner.update(loss)
            assert leaf.grad is not None
            moved = self.share + self.defence.length * leaf.grad.nan_to_num().sign()
            self.share = moved.clamp(-1, 1)
            total += loss.detach()
        return measured(self.learner, ball, leaf.detach(), total / self.defence.replays, clean)

    def state(self) -> Mapping[str, Tensor]:
        """Return the perturbations of all processes, (processes, b, c, d, h, w)."""
        if self.share is None:
            return {}
        found: Tensor = self.learner.fabric.all_gather(self.share)
        return {"share": found.reshape(-1, *self.share.shape)}  # a lone process gathers no axis

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the perturbations of this process's positions in the batch.

        Args:
            state: The perturbations of all processes, as `state` returned them.
        """
        fabric, kept = self.learner.fabric, state.get("share")
        if kept is None:
            self.share = None
            return
        whole = kept.flatten(0, 1)
        self.share = whole[share_of(len(whole), fabric).places].to(fabric.device, copy=True)
