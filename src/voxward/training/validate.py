"""Loss and pooled Dice on fixed patches of the selection cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from voxward.attacks.objectives import create_objective
from voxward.core.labels import LabelSet
from voxward.core.types import Images, Labels, Logits
from voxward.training.defence import bare, patch_ball, search_precision, searched
from voxward.training.setup import TrainingRun

# Sign steps of the search that measures robust Dice: enough to tell checkpoints apart, not to claim a robustness.
_STEPS = 5


@dataclass(frozen=True)
class Validation:
    """Mean loss, and the mean over the foreground classes (or regions) of Dice pooled over all patches.

    A class that is seen nowhere is left out of the mean, which is 0 where none is seen.

    robust, robust_loss: the same Dice and loss on patches that were perturbed; None without a defence.
    """

    loss: float
    dice: float
    robust: float | None = None
    robust_loss: float | None = None

    def score(self, best: Literal["dice", "loss"], share: float) -> float:
        """What the best checkpoint has most of: Dice, or little loss; perturbed patches have a weight of `share`."""
        clean, struck = (self.dice, self.robust) if best == "dice" else (self.loss, self.robust_loss)
        value = clean if struck is None else (1 - share) * clean + share * struck
        return value if best == "dice" else -value


def validate(run: TrainingRun) -> Validation:
    """Judge the network on the run's validation patches; its train/eval mode is left as found.

    With a defence they are also attacked, on the soft Dice within the eps that the defence trains for.
    """
    training = run.network.training
    run.network.eval()
    known, defence = run.plan.labels, run.recipe.defence
    clean, struck = torch.zeros(2, 3, len(known.scored), dtype=torch.float64)
    losses, struck_losses = [], []
    for batch in run.validation:
        images, labels = run.fabric.to_device((batch.images, batch.labels))
        with torch.no_grad():
            logits = run.network(images)
            losses += [float(run.loss(logits, labels))] * len(batch.ids)
        clean += overlap(logits, labels, known).cpu()
        if defence is not None:
            attacked = _attacked(run, images, labels, batch.windows, defence.eps)
            with torch.no_grad():
                logits = run.network(attacked)
                struck_losses += [float(run.loss(logits, labels))] * len(batch.ids)
            struck += overlap(logits, labels, known).cpu()
    run.network.train(training)
    loss, dice = sum(losses) / len(losses), pooled_dice(clean)
    if defence is None:
        return Validation(loss, dice)
    return Validation(loss, dice, pooled_dice(struck), sum(struck_losses) / len(struck_losses))


def _attacked(run: TrainingRun, images: Images, labels: Labels, windows: Tensor, eps: float) -> Images:
    ball, loss, truth = patch_ball(images, windows, eps), create_objective("dice"), run.plan.labels.target(labels)
    with search_precision(run.fabric):
        return searched(
            bare(run.network), ball, images, lambda z, progress: loss(z, truth, progress), _STEPS, 2.5 / _STEPS
        )


def pooled_dice(counts: Tensor) -> float:
    """Mean over the foreground classes (or regions) of the Dice of summed `overlap` counts; 0 where none is seen."""
    both, predicted, true = counts
    seen = (predicted + true) > 0
    dice = torch.where(seen, 2 * both / (predicted + true).clamp_min(1), 0.0)
    return float(dice[seen].mean()) if seen.any() else 0.0


def overlap(logits: Logits, labels: Labels, known: LabelSet) -> Tensor:
    """Per foreground class or region: voxels that agree, are predicted, are true; (3, k)."""
    predicted, true = known.read(logits), labels
    if known.regions:
        found, wanted = (known.nested.to_masks(index).transpose(0, 1).flatten(1) for index in (predicted, true))
        return torch.stack([(found & wanted).sum(1), found.sum(1), wanted.sum(1)]).double()
    index, truth = predicted.flatten().long(), true.flatten().long()
    counts = [torch.bincount(x, minlength=known.count) for x in (truth[index == truth], index, truth)]
    return torch.stack(counts).double()[:, 1:]
