"""What the steps that harden have in common: the ball around a patch, the ascent in it, and what is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxward.attacks.objectives import create_objective
from voxward.attacks.threat import Ball
from voxward.core.model import frozen
from voxward.core.recipe import Defence
from voxward.core.types import Images
from voxward.losses.whole import whole_batch
from voxward.training.learner import Learner
from voxward.training.origin import legal_range
from voxward.training.share import total_over
from voxward.training.steps import StepInput

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FIGURES = ("training_loss", "clean_loss", "saturation", "gradient_norm")
# The clean loss costs a forward pass that trains nothing: it is measured on one batch in so many.
_CLEAN_EVERY = 20
# A perturbation of this share of eps counts as at the rim.
_RIM = 0.99
# The steps of the attack that measures the robust Dice score: enough to tell checkpoints apart, and too few to claim
# that a network is robust.
_STEPS = 5

Ascent = Callable[[Tensor, float], Tensor]
"""A function that is maximised by gradient ascent: from the logits of a perturbed batch and the progress of the ascent
(0 to 1) to one value per sample."""


def patch_ball(images: Images, ranges: Float[Tensor, "b c 2"], eps: float) -> Ball:
    """Return the perturbations of a batch of patches that are allowed.

    Args:
        images: The normalised patches (b, c, d, h, w).
        ranges: The intensity range of each channel of each case, see `data.loader.PatchBatch`.
        eps: The largest change of a voxel, as a share (0 to 1) of the intensity range.

    Returns:
        The ball of that radius around the patches, within the intensity range of case and patch.
    """
    low, high, width = legal_range(images, ranges)
    return Ball("linf", images, eps * width, low, high, width)


def ascended(network: nn.Module, ball: Ball, start: Images, value: Ascent, steps: int, length: float) -> Images:
    """Perturb a batch by gradient ascent: steps along the sign of the gradient.

    Args:
        network: The network that is attacked; its weights and its training mode are left as found.
        ball: The perturbations that are allowed.
        start: The images (b, c, d, h, w) to start from.
        value: The function of logits and progress that is maximised.
        steps: The number of steps, at least 1.
        length: The length of a step, as a multiple of eps.

    Returns:
        The perturbed images (b, c, d, h, w).
    """
    x = start
    with frozen(network):
        for step in range(steps):
            leaf = x.detach().requires_grad_()
            found = value(network(leaf).float(), step / steps).sum()
            x = ball.project(leaf.detach() + length * ball.step(torch.autograd.grad(found, leaf)[0]))
    return x.detach()


def random_start(ball: Ball, batch: StepInput) -> Images:
    """Return a random legal batch, each patch of which is drawn by itself, whatever process has it.

    Args:
        ball: The perturbations that are allowed.
        batch: The batch.
    """
    return random_points(ball, batch.generators())


def random_points(ball: Ball, generators: Sequence[torch.Generator]) -> Images:
    """Return a random legal patch for each generator.

    Args:
        ball: The perturbations that are allowed.
        generators: The source of the random numbers of each patch.
    """
    rows = (ball.rows(torch.tensor([n])).random(own) for n, own in enumerate(generators))
    return torch.cat(list(rows))


def ascent_precision(fabric: Fabric) -> AbstractContextManager[object]:
    """Return the context in which gradient ascent on the images computes.

    It computes in the precision of the training, but never in fp16, in which the gradients of the input vanish because
    nothing scales them.

    Args:
        fabric: The devices and the precision of the run.
    """
    fp16 = getattr(fabric.strategy.precision, "precision", None) == "16-mixed"
    return nullcontext() if fp16 else fabric.autocast()


def bare(network: nn.Module) -> nn.Module:
    """Return the network inside the wrappers of Fabric and of distributed training.

    Args:
        network: The network, with or without wrappers.
    """
    inner: nn.Module = getattr(network, "module", network)
    return inner


class InBall:
    """A step that hardens against perturbations in an l_inf ball."""

    learner: Learner
    defence: Defence
    reads_origin: ClassVar[bool] = False

    def challenge(self, batch: StepInput) -> Images:
        """Attack a batch on the soft Dice loss, within the eps of the defence; see `HardeningStep`."""
        learner = self.learner
        ball, loss = patch_ball(batch.images, batch.ranges, self.defence.eps), create_objective("dice")
        truth = learner.target(batch.labels)
        with ascent_precision(learner.fabric):
            return ascended(
                bare(learner.network), ball, batch.images,
                lambda logits, progress: loss(logits, truth, progress), _STEPS, 2.5 / _STEPS,
            )  # fmt: skip


def grown(defence: Defence, done: float) -> float:
    """Return the share (0 to 1) of its full strength that a perturbation has, which grows during the warm-up.

    Args:
        defence: The recipe's part on the defence.
        done: The share (0 to 1) of the run that is done.
    """
    return min(done / defence.warmup, 1.0) if defence.warmup else 1.0


def eps_now(defence: Defence, done: float) -> float:
    """Return the radius of the ball, a share (0 to 1) of the intensity range.

    Args:
        defence: The recipe's part on the defence.
        done: The share (0 to 1) of the run that is done.
    """
    return defence.eps * grown(defence, done)


def drawn_perturbed(defence: Defence, batch: StepInput) -> Tensor:
    """Draw which samples are perturbed, (b, 1, 1, 1, 1).

    Args:
        defence: The recipe's part on the defence, whose `clean` is the share of the others.
        batch: The batch.
    """
    drawn = batch.rand() >= defence.clean
    return drawn.to(batch.images.device).view(-1, 1, 1, 1, 1)


@torch.no_grad()
def clean_loss(learner: Learner, batch: StepInput) -> Tensor:
    """Return the loss on the batch before it is perturbed, measured on one batch in twenty, else NaN.

    Args:
        learner: The network and its loss.
        batch: The batch.
    """
    if batch.number % _CLEAN_EVERY:
        return torch.full((), math.nan, device=batch.images.device)
    network = bare(learner.network)
    with learner.fabric.autocast(), frozen(network):
        logits = network(batch.images)
    with whole_batch(total_over(learner.fabric)):
        return learner.loss(logits, batch.labels).detach()


def measured(learner: Learner, ball: Ball, x: Images, loss: Tensor, clean: Tensor) -> Float[Tensor, " figures"]:
    """Return the values that `FIGURES` names.

    Args:
        learner: The network, whose gradients are those of the last update.
        ball: The perturbations that were allowed.
        x: The perturbed images.
        loss: The loss that the weights learnt on.
        clean: The loss on the clean batch, or NaN.
    """
    return torch.stack([loss, clean, at_rim(ball, x), gradient_norm(learner)])


def at_rim(ball: Ball, x: Images) -> Tensor:
    """Return the share (0 to 1) of the voxels that were moved as far as the ball allows.

    Args:
        ball: The perturbations that were allowed.
        x: The perturbed images.
    """
    moved = (x - ball.reference).abs()
    return ((moved >= _RIM * ball.eps) & (moved > 0)).float().mean()


def gradient_norm(learner: Learner) -> Tensor:
    """Return the norm of the last gradient of the weights, after clipping.

    Args:
        learner: The network.
    """
    gradients = [weight.grad for weight in learner.network.parameters() if weight.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
