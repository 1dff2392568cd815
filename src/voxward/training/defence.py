"""Training steps that harden: Free and PGD adversarial training, and TRADES.

Patches are perturbed after augmentation, in the ball that attacks use: eps is a share of the case's intensity window,
and no voxel leaves the range of the window and the patch. Two things that an attack on a volume leaves alone are
perturbed as well: what a patch is padded with, and voxels that are exactly 0 in the file of an MR image.

The searches run on the bare network with frozen weights, so they cost no weight gradients and, in distributed training,
no communication. Running statistics of a batch norm are those of what the weights learn on: searches and the clean loss
run in evaluation mode and leave them alone. Where only some samples are perturbed (`clean`, TRADES) they are those of
the mixture.
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
from voxward.training.steps import Stateless, Step, StepInput, Trainer

# The clean loss costs a forward pass that trains nothing: it is measured on one batch in so many.
_CLEAN_EVERY = 20
# A perturbation of this share of eps counts as at the rim.
_RIM = 0.99
_FIGURES = ("training_loss", "clean_loss", "saturation", "gradient_norm")

Search = Callable[[Tensor, float], Tensor]
"""What is maximised, from logits of a perturbed batch and the progress of the search: one value per sample."""


def patch_ball(images: Images, windows: Float[Tensor, "b c 2"], eps: float) -> Ball:
    """The legal perturbations of normalised patches (b, c, d, h, w); eps: a share of the windows, see PatchBatch."""
    low, high = (windows[..., n].to(images)[..., None, None, None] for n in (0, 1))
    unit = high - low
    axes = (2, 3, 4)
    least, most = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return Ball("linf", images, eps * unit, torch.minimum(low, least), torch.maximum(high, most), unit)


def searched(network: nn.Module, ball: Ball, start: Images, value: Search, steps: int, length: float) -> Images:
    """Sign steps of `length` eps up the gradient of `value`, weights and mode of the network left as found."""
    x = start
    with frozen(network):
        for step in range(steps):
            leaf = x.detach().requires_grad_()
            found = value(network(leaf).float(), step / steps).sum()
            x = ball.project(leaf.detach() + length * ball.step(torch.autograd.grad(found, leaf)[0]))
    return x.detach()


def search_precision(fabric: Fabric) -> AbstractContextManager[object]:
    """What a search computes in: as training does, but never fp16, where gradients of the input vanish unscaled."""
    fp16 = getattr(fabric.strategy.precision, "precision", None) == "16-mixed"
    return nullcontext() if fp16 else fabric.autocast()


@dataclass(eq=False)
class FreeStep:
    """Free adversarial training: every minibatch several times, one backward for weights and perturbation.

    The perturbation of a slot of the batch lives on from batch to batch, as a share of eps in [-1, 1]. (In the ROG
    authors' release the step was a floor division that came to 0, so that nothing was ever perturbed.) Of several
    processes each has its own slots, and a resumed run gives each its own back; one that goes on in another number of
    processes, whose slots are others, begins them at 0, as every run does.
    """

    trainer: Trainer
    defence: Defence
    share: Tensor | None = field(default=None, init=False)
    figures = _FIGURES

    @property
    def updates(self) -> int:
        """One per replay."""
        return self.defence.replays

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """See Step."""
        ball = patch_ball(batch.images, batch.windows, _eps(self.defence, batch.done))
        if self.share is None or self.share.shape != batch.images.shape:
            self.share = torch.zeros_like(batch.images)
        perturbed = _perturbed(self.defence, batch)
        total = torch.zeros((), device=batch.images.device)
        clean = _clean_loss(self.trainer, batch)
        for _ in range(self.defence.replays):
            x = ball.project(ball.reference + self.share * ball.eps)
            leaf = torch.where(perturbed, x, batch.images).requires_grad_()
            self.trainer.optimizer.zero_grad(set_to_none=True)
            loss = self.trainer.supervise(self.trainer.network(leaf), batch.labels)
            self.trainer.update(loss)
            assert leaf.grad is not None
            moved = self.share + self.defence.length * leaf.grad.nan_to_num().sign()
            self.share = moved.clamp(-1, 1)
            total += loss.detach()
        return _measured(self.trainer, ball, leaf.detach(), total / self.defence.replays, clean)

    def state(self) -> Mapping[str, Tensor]:
        """The perturbations of all processes, (processes, b, c, d, h, w)."""
        if self.share is None:
            return {}
        found: Tensor = self.trainer.fabric.all_gather(self.share)
        return {"share": found.reshape(-1, *self.share.shape)}  # a lone process gathers no axis

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See Step."""
        fabric, kept = self.trainer.fabric, state.get("share")
        if kept is not None and len(kept) == fabric.world_size:
            self.share = kept[fabric.global_rank].to(fabric.device)
        else:
            self.share = None


@dataclass(frozen=True, eq=False)
class PgdStep(Stateless):
    """The weights learn on what a search from a random point of the ball has found."""

    trainer: Trainer
    defence: Defence
    figures = _FIGURES
    updates = 1

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """See Step."""
        ball = patch_ball(batch.images, batch.windows, _eps(self.defence, batch.done))
        loss = create_objective(self.defence.objective)
        clean, truth = _clean_loss(self.trainer, batch), self.trainer.target(batch.labels)
        with search_precision(self.trainer.fabric):
            found = searched(
                bare(self.trainer.network), ball, ball.random(batch.generator),
                lambda logits, progress: loss(logits, truth, progress), self.defence.steps, self.defence.length,
            )  # fmt: skip
        x = torch.where(_perturbed(self.defence, batch), found, batch.images)
        self.trainer.optimizer.zero_grad(set_to_none=True)
        value = self.trainer.supervise(self.trainer.network(x), batch.labels)
        self.trainer.update(value)
        return _measured(self.trainer, ball, x, value.detach(), clean)


@dataclass(frozen=True, eq=False)
class TradesStep(Stateless):
    """The loss on the clean patch, plus beta times the divergence of the perturbed patch's prediction from its own."""

    trainer: Trainer
    defence: Defence
    figures = _FIGURES
    updates = 1

    def __call__(self, batch: StepInput) -> Float[Tensor, " figures"]:
        """See Step."""
        ball = patch_ball(batch.images, batch.windows, _eps(self.defence, batch.done))
        network, head = bare(self.trainer.network), self.trainer.head
        with search_precision(self.trainer.fabric):
            with torch.no_grad(), frozen(network):
                own = network(batch.images).float()
            x = searched(
                network, ball, ball.random(batch.generator),
                lambda logits, _: divergence(own, logits, batch.labels, head), self.defence.steps, self.defence.length,
            )  # fmt: skip
        self.trainer.optimizer.zero_grad(set_to_none=True)
        outputs = self.trainer.network(torch.cat([batch.images, x]))
        # Auxiliary outputs are supervised on the clean half only; the divergence is that of the main one.
        halves = [logits.chunk(2) for logits in (outputs if isinstance(outputs, tuple) else (outputs,))]
        (clean, perturbed), *_ = halves
        supervised = tuple(first for first, _ in halves) if isinstance(outputs, tuple) else clean
        on_clean = self.trainer.supervise(supervised, batch.labels)
        apart = divergence(clean.float(), perturbed.float(), batch.labels, head)
        value = on_clean + self.defence.beta * apart.mean()
        self.trainer.update(value)
        return _measured(self.trainer, ball, x, value.detach(), on_clean.detach())


def divergence(clean: Logits, perturbed: Logits, labels: Tensor, head: Head = "softmax") -> Float[Tensor, " b"]:
    """KL(clean || perturbed) per sample, foreground and background (of the truth) weighing the same.

    The mean over all voxels would be one over the background, where there is little to lose. Of regions it is the mean
    of each one's own, in or out.
    """
    if head == "regions":
        kl = (_binary(clean, perturbed) + _binary(-clean, -perturbed)).mean(1).flatten(1)
    else:
        pair = perturbed.log_softmax(1), clean.log_softmax(1)
        kl = F.kl_div(*pair, reduction="none", log_target=True).sum(1).flatten(1)
    inside = (labels > 0).flatten(1).to(kl)
    means = [(kl * part).sum(1) / part.sum(1).clamp_min(1) for part in (inside, 1 - inside)]
    return (means[0] + means[1]) / 2


def _binary(clean: Logits, perturbed: Logits) -> Logits:
    """What being in a region adds to the divergence: p ln(p / q)."""
    return F.kl_div(F.logsigmoid(perturbed), F.logsigmoid(clean), reduction="none", log_target=True)


DEFENCES: Registry[Callable[[Trainer, Defence], Step]] = Registry(
    "defence", {"free": FreeStep, "pgd": PgdStep, "trades": TradesStep}
)


def _eps(defence: Defence, done: float) -> float:
    return defence.eps * (min(done / defence.warmup, 1.0) if defence.warmup else 1.0)


def _perturbed(defence: Defence, batch: StepInput) -> Tensor:
    """Which samples are, (b, 1, 1, 1, 1)."""
    drawn = torch.rand(len(batch.images), generator=batch.generator) >= defence.clean
    return drawn.to(batch.images.device).view(-1, 1, 1, 1, 1)


@torch.no_grad()
def _clean_loss(trainer: Trainer, batch: StepInput) -> Tensor:
    """NaN on most batches."""
    if batch.number % _CLEAN_EVERY:
        return torch.full((), math.nan, device=batch.images.device)
    network = bare(trainer.network)
    with trainer.fabric.autocast(), frozen(network):
        logits = network(batch.images)
    return trainer.loss(logits, batch.labels).detach()


def _measured(trainer: Trainer, ball: Ball, x: Images, loss: Tensor, clean: Tensor) -> Float[Tensor, " figures"]:
    """The losses, the share of voxels at the rim of the ball, the norm of the weights' last gradient (as clipped)."""
    moved = (x - ball.reference).abs()
    rim = ((moved >= _RIM * ball.eps) & (moved > 0)).float().mean()
    gradients = [weight.grad for weight in trainer.network.parameters() if weight.grad is not None]
    return torch.stack([loss, clean, rim, torch.nn.utils.get_total_norm(gradients)])


def bare(network: nn.Module) -> nn.Module:
    """The network inside Fabric's wrapper (and that of distributed training)."""
    inner: nn.Module = getattr(network, "module", network)
    return inner
