"""The validation of a run: loss and Dice on fixed patches of the cases that choose the best checkpoint."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from voxward.core.labels import IGNORED, LabelSet
from voxward.core.types import Images, Labels, Logits
from voxward.data.loader import PatchBatch, step_generator
from voxward.training.selection import Validation
from voxward.training.setup import TrainingRun
from voxward.training.steps import HardeningStep, StepInput

# The stream of the random numbers that change validation patches: training draws from the first one.
_CHALLENGE = 1


def validate(run: TrainingRun, batches: Iterable[PatchBatch]) -> Validation:
    """Measure loss and Dice of the network on validation patches of its run.

    With a defence, the patches are also changed as the defence trains for: attacked on the soft Dice loss, within its
    eps, or with noise of its standard deviation.

    Args:
        run: The run. Its network is left in the mode (training or evaluation) in which it was found.
        batches: Which of its validation patches are judged.

    Returns:
        Loss and Dice, of clean and of perturbed patches.
    """
    training = run.network.training
    run.network.eval()
    known, step = run.plan.labels, run.step
    clean, struck = torch.zeros(2, 3, len(known.scored), dtype=torch.float64)
    losses, struck_losses = [], []
    for batch in batches:
        images, labels = run.fabric.to_device((batch.images, batch.labels))
        with torch.no_grad():
            logits = run.network(images)
            losses += [float(run.learner.loss(logits, labels))] * _counted(batch, labels, known)
        clean += overlap(logits, labels, known)
        if isinstance(step, HardeningStep):
            changed = _challenged(run, step, batch, images, labels)
            with torch.no_grad():
                logits = run.network(changed)
                struck_losses += [float(run.learner.loss(logits, labels))] * _counted(batch, labels, known)
            struck += overlap(logits, labels, known)
    run.network.train(training)
    loss, dice = _mean(losses), pooled_dice(clean)
    if not isinstance(step, HardeningStep):
        return Validation(loss, dice)
    return Validation(loss, dice, pooled_dice(struck), _mean(struck_losses))


def _counted(batch: PatchBatch, labels: Labels, known: LabelSet) -> int:
    """Return how many patches of a batch count: those with an annotated voxel."""
    return len(batch.ids) if known.ignore is None else int((labels != IGNORED).flatten(1).any(1).sum())


def _mean(losses: list[float]) -> float:
    return sum(losses) / len(losses) if losses else 0.0


def _challenged(run: TrainingRun, step: HardeningStep, batch: PatchBatch, images: Images, labels: Labels) -> Images:
    """The patches as the defence changes them, alike in every validation."""
    origins, ranges = run.origins, run.fabric.to_device(batch.ranges)
    origin = None if origins is None else origins.of(batch.ids, origins.air(images, batch.ids))
    generator = step_generator(run.seed, batch.step, _CHALLENGE)
    return step.challenge(StepInput(images, labels, ranges, batch.step, 1.0, generator, origin=origin))


def pooled_dice(counts: Tensor) -> float:
    """Return the mean Dice score (0 to 1) over the foreground classes or regions.

    Args:
        counts: The sum (3, k) of what `overlap` returned for all patches.

    Returns:
        The mean over the classes that occur in the ground truth or in the prediction; 0 if none does.
    """
    both, predicted, true = counts
    seen = (predicted + true) > 0
    dice = torch.where(seen, 2 * both / (predicted + true).clamp_min(1), 0.0)
    return float(dice[seen].mean()) if seen.any() else 0.0


def overlap(logits: Logits, labels: Labels, known: LabelSet) -> Tensor:
    """Count, for every foreground class or region, the voxels that agree, that are predicted, and that are true.

    Args:
        logits: The outputs of the network, (b, c, d, h, w).
        labels: The class indices of the ground truth, (b, d, h, w).
        known: The labels, which say how logits are read.

    Returns:
        Three rows of counts, (3, k) in float64 on the CPU.
    """
    predicted, true = known.read(logits), labels
    if known.ignore is not None:  # background in both counts nowhere below
        unknown = labels == IGNORED
        predicted, true = predicted.masked_fill(unknown, 0), labels.masked_fill(unknown, 0)
    if known.regions:
        found, wanted = (known.region_maps.to_masks(index).transpose(0, 1).flatten(1) for index in (predicted, true))
        return torch.stack([(found & wanted).sum(1), found.sum(1), wanted.sum(1)]).cpu().double()
    index, truth = predicted.flatten().long(), true.flatten().long()
    counts = [torch.bincount(x, minlength=known.count) for x in (truth[index == truth], index, truth)]
    return torch.stack(counts).cpu().double()[:, 1:]
