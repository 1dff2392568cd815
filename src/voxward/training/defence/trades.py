"""TRADES: the loss on clean patches, plus a divergence that perturbed patches cause."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from voxward.core.model import Head, frozen
from voxward.core.recipe import Defence
from voxward.core.types import Logits
from voxward.training.defence.perturbation import (
    FIGURES,
    InBall,
    ascended,
    ascent_precision,
    bare,
    eps_now,
    measured,
    patch_ball,
    random_start,
)
from voxward.training.learner import Learner
from voxward.training.steps import Stateless, StepInput


@dataclass(frozen=True, eq=False)
class TradesStep(InBall, Stateless):
    """TRADES (Zhang et al. 2019): the loss on clean patches, plus a divergence that perturbed patches cause.

    The divergence is that of the prediction for the perturbed patch from the prediction for the clean patch, and `beta`
    is its weight. The perturbation is made by gradient ascent on this divergence.

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
        network, head, known = bare(self.learner.network), self.learner.head, self.learner.annotated(batch.labels)
        with ascent_precision(self.learner.fabric):
            with torch.no_grad(), frozen(network):
                own = network(batch.images).float()
            x = ascended(
                network, ball, random_start(ball, batch),
                lambda logits, _: divergence(own, logits, batch.labels, head, known),
                self.defence.steps, self.defence.length,
            )  # fmt: skip
        self.learner.optimizer.zero_grad(set_to_none=True)
        outputs = self.learner.network(torch.cat([batch.images, x]))
        # Auxiliary outputs are supervised on the clean half only; the divergence is that of the main one.
        halves = [logits.chunk(2) for logits in (outputs if isinstance(outputs, tuple) else (outputs,))]
        (clean, perturbed), *_ = halves
        supervised = tuple(first for first, _ in halves) if isinstance(outputs, tuple) else clean
        on_clean = self.learner.supervise(supervised, batch.labels)
        apart = divergence(clean.float(), perturbed.float(), batch.labels, head, known)
        value = on_clean + self.defence.beta * apart.mean()
        self.learner.update(value)
        return measured(self.learner, ball, x, value.detach(), on_clean.detach())


def divergence(
    clean: Logits, perturbed: Logits, labels: Tensor, head: Head = "softmax", known: Tensor | None = None
) -> Float[Tensor, " b"]:
    """Return how far the prediction for a perturbed patch is from the prediction for the clean one.

    It is the Kullback-Leibler divergence KL(clean || perturbed), in nats. Foreground and background of the ground
    truth have the same weight: the mean over all voxels would be almost only a mean over the background, where there is
    little to lose.

    Args:
        clean: The logits (b, k, d, h, w) of the clean patches.
        perturbed: The logits of the perturbed patches, of the same shape.
        labels: The class indices (b, d, h, w) of the ground truth.
        head: How logits are read. For regions, the divergence is the mean over the regions, each of which a voxel is
            inside or outside.
        known: Which voxels are annotated (b, d, h, w); the others do not count. None: all.

    Returns:
        One value per sample, (b,).
    """
    if head == "regions":
        kl = (_binary(clean, perturbed) + _binary(-clean, -perturbed)).mean(1).flatten(1)
    else:
        pair = perturbed.log_softmax(1), clean.log_softmax(1)
        kl = F.kl_div(*pair, reduction="none", log_target=True).sum(1).flatten(1)
    inside = (labels > 0).flatten(1).to(kl)
    outside = 1 - inside
    if known is not None:
        inside, outside = inside * known.flatten(1), outside * known.flatten(1)
    means = [(kl * part).sum(1) / part.sum(1).clamp_min(1) for part in (inside, outside)]
    return (means[0] + means[1]) / 2


def _binary(clean: Logits, perturbed: Logits) -> Logits:
    """Return the part p ln(p / q) of the divergence that belongs to being inside a region."""
    return F.kl_div(F.logsigmoid(perturbed), F.logsigmoid(clean), reduction="none", log_target=True)
