"""Adversarial training with PGD."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.attacks.objectives import create_objective
from voxward.attacks.threat import Ball
from voxward.core.recipe import Defence
from voxward.core.types import Images, Labels
from voxward.training.defence.perturbation import (
    FIGURES,
    InBall,
    ascended,
    ascent_precision,
    bare,
    clean_loss,
    drawn_perturbed,
    eps_now,
    measured,
    patch_ball,
    random_start,
)
from voxward.training.learner import Learner
from voxward.training.steps import Stateless, StepInput


@dataclass(frozen=True, eq=False)
class PgdStep(InBall, Stateless):
    """Adversarial training with PGD (Madry et al. 2018): gradient ascent makes the patches that the weights learn on.

    The ascent starts at a random point of the ball, or at the patches themselves.

    Attributes:
        learner: The network and everything that changes it.
        defence: The recipe's part on the defence.
        figures: The names of the values that a call returns.
        updates: How often a call moves the weights.
    """

    learner: Learner
    defence: Defence
    figures = FIGURES
    updates = 1

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Perturb the batch, update the weights once, and return the figures of the batch."""
        ball = patch_ball(batch.images, batch.ranges, eps_now(self.defence, batch.done))
        start = batch.images if self.defence.start == "reference" else random_start(ball, batch)
        clean = clean_loss(self.learner, batch)
        found = attacked(self.learner, self.defence, ball, start, batch.labels)
        x = torch.where(drawn_perturbed(self.defence, batch), found, batch.images)
        self.learner.optimizer.zero_grad(set_to_none=True)
        value = self.learner.supervise(self.learner.network(x), batch.labels)
        self.learner.update(value)
        return measured(self.learner, ball, x, value.detach(), clean)


def attacked(learner: Learner, defence: Defence, ball: Ball, start: Images, labels: Labels) -> Images:
    """Return what the inner attack of PGD finds.

    Args:
        learner: The network.
        defence: The recipe's part on the defence.
        ball: The perturbations that are allowed.
        start: The images (b, c, d, h, w) to start from.
        labels: The class indices (b, d, h, w).
    """
    loss, truth = create_objective(defence.objective), learner.target(labels)
    with ascent_precision(learner.fabric):
        return ascended(
            bare(learner.network), ball, start, lambda logits, progress: loss(logits, truth, progress),
            defence.steps, defence.length,
        )  # fmt: skip
