"""Every objective by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from voxward.attacks.objectives import rules
from voxward.attacks.objectives.boundary import BoundaryLoss
from voxward.attacks.objectives.dice import DiceCrossEntropy, SharpDiceLoss, SoftDiceLoss
from voxward.attacks.objectives.frontier import FrontierLoss
from voxward.attacks.objectives.mean import BalancedLoss, VoxelLoss
from voxward.attacks.objectives.rules import VoxelRule
from voxward.attacks.objectives.weights import Loss, Weights
from voxward.core.model import Head, Objective
from voxward.core.registry import Registry


@dataclass(frozen=True)
class ObjectiveEntry:
    """A registered objective.

    Attributes:
        build: Makes the loss from the weights of the classes or regions.
        summary: What the loss is, in a few words.
        saturates: Whether its gradient vanishes where the softmax (or sigmoid) is sure of the true class.
        steady: Whether it is the same function in all steps of an attack.
    """

    build: Callable[[Weights], Loss]
    summary: str
    saturates: bool = True
    steady: bool = True


def _voxels(rule: VoxelRule, summary: str, saturates: bool = True, steady: bool = True) -> ObjectiveEntry:
    return ObjectiveEntry(partial(VoxelLoss, rule), summary, saturates, steady)


OBJECTIVES: Registry[ObjectiveEntry] = Registry(
    "objective",
    {
        "ce": _voxels(rules.cross_entropy, "the cross-entropy"),
        "masked-ce": _voxels(rules.masked_cross_entropy, "the cross-entropy of the voxels that are still correct"),
        "balanced-ce": ObjectiveEntry(
            partial(BalancedLoss, rules.masked_cross_entropy),
            "the cross-entropy of the voxels that are still correct, every class weighing the same",
        ),
        "dlr": _voxels(rules.dlr, "the difference of logits ratio (DLR), which needs three classes", saturates=False),
        "margin": _voxels(rules.margin_loss, "the margin of the best wrong class over the true one", saturates=False),
        "dice": ObjectiveEntry(SoftDiceLoss, "one minus the soft Dice"),
        "dice-sharp": ObjectiveEntry(
            SharpDiceLoss,
            "one minus a soft Dice close to the Dice of the mask, whatever the logits' scale",
            saturates=False,
        ),
        "dice-anneal": ObjectiveEntry(
            partial(SharpDiceLoss, annealed=True),
            "one minus a soft Dice that comes close to the Dice of the mask during the attack",
            steady=False,
        ),
        "dice-ce": ObjectiveEntry(DiceCrossEntropy, "one minus the soft Dice, plus the cross-entropy"),
        "boundary": ObjectiveEntry(BoundaryLoss, "the signed distance of what is predicted from the true boundary"),
        "frontier": ObjectiveEntry(
            FrontierLoss,
            "minus the margin of the tenth of each class that is nearest to the decision boundary",
            saturates=False,
        ),
        "jsd": _voxels(rules.jensen_shannon, "the Jensen-Shannon divergence from the ground truth"),
        "mask-norm": _voxels(
            rules.mask_norm, "minus the normalised true logit of the voxels that are still correct", saturates=False
        ),
        "tsallis": _voxels(
            rules.tsallis, "the Tsallis cross-entropy, whose q grows from -2 to 1 during the attack", steady=False
        ),
        "segpgd": _voxels(
            rules.segpgd, "a cross-entropy whose weight moves from the correct to the wrong voxels", steady=False
        ),
        "cospgd": _voxels(rules.cospgd, "the cross-entropy, weighted by how well each voxel is still predicted"),
    },
)


def create_objective(name: str, class_weights: Weights = None) -> Loss:
    """Create an objective by name.

    Args:
        name: A name in `OBJECTIVES`; `describe` says what each of them is.
        class_weights: Weights of the classes or regions, finite, at least 0 and not all 0; None: 1 each.

    Raises:
        UserError: The name is unknown, or the weights are illegal.
    """
    return OBJECTIVES[name].build(class_weights)


def describe() -> dict[str, str]:
    """Return what each objective is, in one line per name."""
    return {name: entry.summary for name, entry in OBJECTIVES.items()}


def at(loss: Loss, progress: float) -> Objective:
    """Return a loss at one moment of an attack.

    Args:
        loss: The loss.
        progress: The share of the attack's steps that are done, 0 to 1.
    """
    return lambda logits, target: loss(logits, target, progress)


def check_objective(loss: Loss, head: Head, classes: int) -> None:
    """Check that a loss works on a model, by trying it on one voxel.

    Args:
        loss: The loss.
        head: How the model's logits are read.
        classes: The model's number of classes or regions.

    Raises:
        UserError: The loss does not work on such a model.
    """
    logits = torch.zeros(1, classes, 1, 1)
    loss(logits, torch.zeros_like(logits if head == "regions" else logits[:, 0], dtype=torch.long), 0.0)
