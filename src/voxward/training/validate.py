"""Loss and pooled Dice on fixed patches of the selection cases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.attacks.objectives import create_objective
from voxward.core.types import Images, Labels, Logits
from voxward.training.defence import bare, patch_ball, searched
from voxward.training.setup import TrainingRun

# Sign steps of the search that measures robust Dice: enough to tell checkpoints apart, not to claim a robustness.
_STEPS = 5


@dataclass(frozen=True)
class Validation:
    """Mean loss, and the mean over the foreground classes of Dice pooled over all patches (0 where none is seen).

    robust: the same Dice on patches that were perturbed; None without a defence.
    """

    loss: float
    dice: float
    robust: float | None = None


def validate(run: TrainingRun) -> Validation:
    """Judge the network on the run's validation patches; its train/eval mode is left as found.

    With a defence they are also attacked, on the soft Dice within the eps that the defence trains for.
    """
    training = run.network.training
    run.network.eval()
    classes, defence = run.plan.labels.count, run.recipe.defence
    clean, struck = torch.zeros(2, 3, classes, dtype=torch.float64)
    losses = []
    for batch in run.validation:
        images, labels = run.fabric.to_device((batch.images, batch.labels))
        with torch.no_grad():
            logits = run.network(images)
            losses += [float(run.loss(logits, labels))] * len(batch.ids)
        clean += overlap(logits, labels, classes).cpu()
        if defence is not None:
            attacked = _attacked(run, images, labels, batch.windows, defence.eps)
            with torch.no_grad():
                struck += overlap(run.network(attacked), labels, classes).cpu()
    run.network.train(training)
    return Validation(sum(losses) / len(losses), pooled_dice(clean), None if defence is None else pooled_dice(struck))


def _attacked(run: TrainingRun, images: Images, labels: Labels, windows: Tensor, eps: float) -> Images:
    ball, loss, truth = patch_ball(images, windows, eps), create_objective("dice"), labels.long()
    with run.fabric.autocast():
        return searched(
            bare(run.network), ball, images, lambda z, progress: loss(z, truth, progress), _STEPS, 2.5 / _STEPS
        )


def pooled_dice(counts: Tensor) -> float:
    """Mean over the foreground classes of the Dice of summed `overlap` counts; 0 where no class is seen."""
    both, predicted, true = counts[:, 1:]
    seen = (predicted + true) > 0
    dice = torch.where(seen, 2 * both / (predicted + true).clamp_min(1), 0.0)
    return float(dice[seen].mean()) if seen.any() else 0.0


def overlap(logits: Logits, labels: Labels, classes: int) -> Tensor:
    """Per class: voxels that agree, are predicted, are true; (3, k)."""
    predicted = logits.max(1).indices.flatten()
    true = labels.flatten().long()
    both = true[predicted == true]
    return torch.stack([torch.bincount(x, minlength=classes) for x in (both, predicted, true)]).double()
