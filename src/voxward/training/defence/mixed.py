"""Training on clean, attacked and corrupted patches together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from voxward.core.recipe import Defence
from voxward.core.types import Images
from voxward.losses.types import Outputs
from voxward.training.defence.perturbation import (
    InBall,
    at_rim,
    clean_loss,
    eps_now,
    gradient_norm,
    patch_ball,
    random_points,
)
from voxward.training.defence.pgd import attacked
from voxward.training.defence.trades import divergence
from voxward.training.learner import Learner
from voxward.training.patch_corruptions import PatchCorruptions
from voxward.training.steps import Stateless, StepInput

CLEAN, ATTACKED, CORRUPTED = range(3)
# Up to these shares of all samples are clean, and attacked; the others are corrupted.
_SHARES = torch.tensor([0.5, 0.75])


@dataclass(frozen=True, eq=False)
class MixedStep(InBall, Stateless):
    """Training on batches of which half is clean, a quarter attacked as in PGD, and a quarter corrupted.

    What becomes of a patch is drawn for each patch by itself, so that the shares hold in the mean over many steps, for
    batches of any size. A corrupted patch has one corruption, drawn from those of the packaged set that act locally,
    at a severity of 1, 2 or 3; each channel has parameters of its own. The severities 4 and 5 are never trained on, so
    that they can be measured.

    The weights learn on the loss of the whole batch, plus `consistency` times the divergence (as in TRADES) of the
    prediction for every attacked or corrupted patch from the prediction for the same patch as it was. This divergence
    is added up over the batch and divided by the number of all its patches.

    Attributes:
        learner: The network and everything that changes it.
        defence: The recipe's part on the defence.
        figures: The names of the values that a call returns.
        updates: How often a call moves the weights.
        reads_origin: Whether a call needs the origin of the batch.
    """

    learner: Learner
    defence: Defence
    figures = ("training_loss", "clean_loss", "saturation", "gradient_norm", "divergence")
    updates = 1
    reads_origin: ClassVar[bool] = True

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Change the batch, update the weights once, and return the figures of the batch."""
        x, saturation, changed = self._changed(batch)
        clean, own = clean_loss(self.learner, batch), len(x)
        self.learner.optimizer.zero_grad(set_to_none=True)
        outputs = self.learner.network(torch.cat([x, batch.images[changed]]) if len(changed) else x)
        value = self.learner.supervise(_first(outputs, own), batch.labels)
        apart = self._divergence(outputs, batch, changed)
        self.learner.update(value + self.defence.consistency * apart)
        return torch.stack([value.detach(), clean, saturation, gradient_norm(self.learner), apart.detach()])

    def _changed(self, batch: StepInput) -> tuple[Images, Tensor, Tensor]:
        """The batch to learn on, how many voxels lie at the rim of the ball, and which samples were changed."""
        kinds, generators = kinds_of(batch), batch.generators()
        x, saturation = batch.images.clone(), torch.full((), math.nan, device=batch.images.device)
        rows = (kinds == ATTACKED).nonzero().flatten()
        if len(rows):
            where = rows.to(x.device)
            ball = patch_ball(batch.images[where], batch.ranges[where], eps_now(self.defence, batch.done))
            at_random = self.defence.start == "random"
            start = random_points(ball, [generators[n] for n in rows.tolist()]) if at_random else ball.reference
            x[where] = attacked(self.learner, self.defence, ball, start, batch.labels[where])
            saturation = at_rim(ball, x[where])
        for n in (kinds == CORRUPTED).nonzero().flatten().tolist():
            one = slice(n, n + 1)
            origin = None if batch.origin is None else batch.origin.rows(torch.tensor([n]))
            x[one] = self._corruptions.corrupted(batch.images[one], batch.ranges[one], origin, generators[n])
        return x, saturation, (kinds != CLEAN).nonzero().flatten().to(x.device)

    def _divergence(self, outputs: Outputs, batch: StepInput, changed: Integer[Tensor, " n"]) -> Tensor:
        """The sum over the changed samples, as a share of all samples of the batch."""
        if not len(changed):
            return torch.zeros((), device=batch.images.device)
        learner, labels = self.learner, batch.labels[changed]
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        before, after = logits[len(batch.images) :].float(), logits[changed].float()
        apart = divergence(before, after, labels, learner.head, learner.annotated(labels))
        return apart.sum() / len(batch.images)

    @cached_property
    def _corruptions(self) -> PatchCorruptions:
        return PatchCorruptions.chosen(self.defence.corruptions)


def kinds_of(batch: StepInput) -> Integer[Tensor, " b"]:
    """Draw what becomes of each patch: half of all are CLEAN, a quarter is ATTACKED, and a quarter CORRUPTED.

    Args:
        batch: The batch.

    Returns:
        The kind of each patch, on the CPU, whatever the number of processes.
    """
    return torch.bucketize(batch.rand(), _SHARES, right=True)


def _first(outputs: Outputs, count: int) -> Outputs:
    """The outputs for the first samples."""
    return tuple(each[:count] for each in outputs) if isinstance(outputs, tuple) else outputs[:count]
