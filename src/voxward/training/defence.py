"""Training steps that harden: Free and PGD adversarial training, and TRADES.

Patches are perturbed after augmentation, within the ball that attacks use: eps is a share of the intensity range of a
case, and no voxel leaves the intensity range of the case and the patch. An attack on a whole volume leaves two kinds of
voxels alone that are perturbed here: the padding of a patch, and voxels that are exactly 0 in the file of an MR image.

The gradient ascent that makes a perturbation runs on the bare network with frozen weights, so that it costs no
gradients of the weights and, in distributed training, no communication. The running statistics of a batch norm come
only from the batches that the weights learn on: the ascent and the clean loss run in evaluation mode and do not change
them. Where only some samples are perturbed (`clean`, TRADES), the statistics are those of clean and perturbed samples
together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from voxward.attacks.objectives import create_objective
from voxward.attacks.threat import Ball
from voxward.core.model import Head, frozen
from voxward.core.recipe import Defence
from voxward.core.registry import Registry
from voxward.core.types import Images, Logits
from voxward.losses.whole import whole_batch
from voxward.training.learner import Learner
from voxward.training.share import share_of, total_over
from voxward.training.steps import Stateless, Step, StepInput

# The clean loss costs a forward pass that trains nothing: it is measured on one batch in so many.
_CLEAN_EVERY = 20
# A perturbation of this share of eps counts as at the rim.
_RIM = 0.99
_FIGURES = ("training_loss", "clean_loss", "saturation", "gradient_norm")

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
    low, high = (ranges[..., n].to(images)[..., None, None, None] for n in (0, 1))
    unit = high - low
    axes = (2, 3, 4)
    least, most = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return Ball("linf", images, eps * unit, torch.minimum(low, least), torch.maximum(high, most), unit)


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
    rows = (ball.rows(torch.tensor([n])).random(own) for n, own in enumerate(batch.generators()))
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


@dataclass(eq=False)
class FreeStep:
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
    figures = _FIGURES

    @property
    def updates(self) -> int:
        """Return the number of replays, because each replay moves the weights once."""
        return self.defence.replays

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Update weights and perturbation once per replay and return the figures of the batch."""
        ball = patch_ball(batch.images, batch.ranges, _eps(self.defence, batch.done))
        if self.share is None or self.share.shape != batch.images.shape:
            self.share = torch.zeros_like(batch.images)
        perturbed = _perturbed(self.defence, batch)
        total = torch.zeros((), device=batch.images.device)
        clean = _clean_loss(self.learner, batch)
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
        return _measured(self.learner, ball, leaf.detach(), total / self.defence.replays, clean)

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


@dataclass(frozen=True, eq=False)
class PgdStep(Stateless):
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
    figures = _FIGURES
    updates = 1

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Perturb the batch, update the weights once, and return the figures of the batch."""
        ball = patch_ball(batch.images, batch.ranges, _eps(self.defence, batch.done))
        loss = create_objective(self.defence.objective)
        start = batch.images if self.defence.start == "reference" else random_start(ball, batch)
        clean, truth = _clean_loss(self.learner, batch), self.learner.target(batch.labels)
        with ascent_precision(self.learner.fabric):
            found = ascended(
                bare(self.learner.network), ball, start,
                lambda logits, progress: loss(logits, truth, progress), self.defence.steps, self.defence.length,
            )  # fmt: skip
        x = torch.where(_perturbed(self.defence, batch), found, batch.images)
        self.learner.optimizer.zero_grad(set_to_none=True)
        value = self.learner.supervise(self.learner.network(x), batch.labels)
        self.learner.update(value)
        return _measured(self.learner, ball, x, value.detach(), clean)


@dataclass(frozen=True, eq=False)
class TradesStep(Stateless):
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
    figures = _FIGURES
    updates = 1

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """Perturb the batch, update the weights once, and return the figures of the batch."""
        ball = patch_ball(batch.images, batch.ranges, _eps(self.defence, batch.done))
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
        return _measured(self.learner, ball, x, value.detach(), on_clean.detach())


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


DEFENCES: Registry[Callable[[Learner, Defence], Step]] = Registry(
    "defence", {"free": FreeStep, "pgd": PgdStep, "trades": TradesStep}
)


def _eps(defence: Defence, done: float) -> float:
    return defence.eps * (min(done / defence.warmup, 1.0) if defence.warmup else 1.0)


def _perturbed(defence: Defence, batch: StepInput) -> Tensor:
    """Draw which samples are perturbed, (b, 1, 1, 1, 1)."""
    drawn = batch.rand() >= defence.clean
    return drawn.to(batch.images.device).view(-1, 1, 1, 1, 1)


@torch.no_grad()
def _clean_loss(learner: Learner, batch: StepInput) -> Tensor:
    """Return the loss on the batch before it is perturbed, measured on one batch in `_CLEAN_EVERY`, else NaN."""
    if batch.number % _CLEAN_EVERY:
        return torch.full((), math.nan, device=batch.images.device)
    network = bare(learner.network)
    with learner.fabric.autocast(), frozen(network):
        logits = network(batch.images)
    with whole_batch(total_over(learner.fabric)):
        return learner.loss(logits, batch.labels).detach()


def _measured(learner: Learner, ball: Ball, x: Images, loss: Tensor, clean: Tensor) -> Float[Tensor, " figures"]:
    """Return the values that `_FIGURES` names.

    They are the two losses, the share of the voxels that lie at the rim of the ball, and the norm of the last gradient
    of the weights (after clipping).
    """
    moved = (x - ball.reference).abs()
    rim = ((moved >= _RIM * ball.eps) & (moved > 0)).float().mean()
    gradients = [weight.grad for weight in learner.network.parameters() if weight.grad is not None]
    return torch.stack([loss, clean, rim, torch.nn.utils.get_total_norm(gradients)])


def bare(network: nn.Module) -> nn.Module:
    """Return the network inside the wrappers of Fabric and of distributed training.

    Args:
        network: The network, with or without wrappers.
    """
    inner: nn.Module = getattr(network, "module", network)
    return inner
