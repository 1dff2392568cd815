"""Objectives that are a mean over the voxels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.attacks.objectives.rules import VoxelRule
from voxward.attacks.objectives.weights import Weights, check_weights, weights_of, wide
from voxward.core.model import Scores, Truth, Values, annotated_part


@dataclass(frozen=True)
class VoxelLoss:
    """The mean of a rule over the voxels (and regions), weighted by the true class (or by the region).

    Attributes:
        rule: The value of each voxel.
        class_weights: Weights of the classes or regions, finite, at least 0 and not all 0; None: 1 each.

    Raises:
        UserError: The weights are illegal or, when the loss is computed, not one per class or region.
    """

    rule: VoxelRule
    class_weights: Weights = None

    def __post_init__(self) -> None:
        check_weights(self.class_weights)

    def __call__(self, logits: Scores, target: Truth, progress: float) -> Values:
        """Compute the loss.

        Args:
            logits: Logits (b, k, *spatial).
            target: The ground truth.
            progress: The share of the attack's steps that are done, 0 to 1.

        Returns:
            One value per case (b).
        """
        z, (y, known) = wide(logits), annotated_part(target)
        values = self.rule(z, y, progress).flatten(1)
        weights = self.weigh(z, y, known)
        if weights is None and known is None:
            return values.mean(1)
        weights = torch.ones_like(values) if weights is None else weights.flatten(1)
        if known is not None:
            # Chosen, not multiplied: a weight or a value of unannotated voxels may be infinite.
            weights, values = weights.where(known.flatten(1), 0.0), values.where(known.flatten(1), 0.0)
        return (weights * values).sum(1) / weights.sum(1).clamp_min(1e-30)

    def weigh(self, z: Tensor, y: Tensor, known: Tensor | None = None) -> Tensor | None:
        """Return the weight of each value of the rule; None if all weigh the same.

        Args:
            z: Logits (b, k, *spatial), float32 or float64.
            y: The ground truth, int64, with background where it is not annotated.
            known: Which voxels are annotated, booleans of the shape of `y`; None: all. The weights of the others do not
                matter.
        """
        if self.class_weights is None:
            return None
        weights = weights_of(self.class_weights, z)
        if y.ndim < z.ndim:
            return weights[y]
        return weights.view(-1, *(1,) * (z.ndim - 2)).expand(z.shape)


@dataclass(frozen=True)
class BalancedLoss(VoxelLoss):
    """A voxel loss in which every class (or each of a region's 0 and 1) weighs the same.

    Without `class_weights` the weight of a voxel is 1 / N, where N counts the voxels of its class, or of its 0 or 1 in
    that region, in the case's own ground truth. With given weights (1 / N_class of the training set) it is the plain
    weighted mean.

    Attributes:
        rule: The value of each voxel.
        class_weights: Weights of the classes or regions; None: from the case's own ground truth.
    """

    def weigh(self, z: Tensor, y: Tensor, known: Tensor | None = None) -> Tensor | None:
        """Return the weight of each value of the rule; see `VoxelLoss.weigh`."""
        if self.class_weights is not None:
            return super().weigh(z, y)
        if y.ndim == z.ndim:
            inside = y.flatten(2).to(z).mean(2)
            if known is not None:  # `y` is 0 elsewhere
                inside = y.flatten(2).to(z).sum(2) / known.flatten(2).sum(2).clamp_min(1)
            inside = inside.view(*y.shape[:2], *(1,) * (y.ndim - 2))
            return 1 / torch.where(y == 1, inside, 1 - inside)
        rows = torch.stack([case.bincount(minlength=z.shape[1]) for case in y.flatten(1)])
        if known is not None:
            rows[:, 0] -= (~known).flatten(1).sum(1)
        # No voxel has an absent class, so its weight is never used; 1 keeps it finite.
        return (1 / rows.clamp_min(1).to(z)).gather(1, y.flatten(1))
