"""Loss and pooled Dice on fixed patches of the selection cases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.core.types import Labels, Logits
from voxward.training.setup import TrainingRun


@dataclass(frozen=True)
class Validation:
    """Mean loss, and the mean over the foreground classes of Dice pooled over all patches (0 where none is seen)."""

    loss: float
    dice: float


@torch.no_grad()
def validate(run: TrainingRun) -> Validation:
    """Judge the network on the run's validation patches; its train/eval mode is left as found."""
    training = run.network.training
    run.network.eval()
    classes = run.plan.labels.count
    counts = torch.zeros(3, classes, dtype=torch.float64)
    losses = []
    for batch in run.validation:
        images, labels = run.fabric.to_device((batch.images, batch.labels))
        logits = run.network(images)
        losses += [float(run.loss(logits, labels))] * len(batch.ids)
        counts += _overlap(logits, labels, classes).cpu()
    run.network.train(training)
    both, predicted, true = counts[:, 1:]
    seen = (predicted + true) > 0
    dice = torch.where(seen, 2 * both / (predicted + true).clamp_min(1), 0.0)
    return Validation(sum(losses) / len(losses), float(dice[seen].mean()) if seen.any() else 0.0)


def _overlap(logits: Logits, labels: Labels, classes: int) -> Tensor:
    """Per class: voxels that agree, are predicted, are true; (3, k)."""
    predicted = logits.argmax(1).flatten()
    true = labels.flatten().long()
    both = true[predicted == true]
    return torch.stack([torch.bincount(x, minlength=classes) for x in (both, predicted, true)]).double()
