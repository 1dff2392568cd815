"""The voxels of each class that are nearest to the decision boundary, as an objective."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.attacks.objectives.rules import correct, margin
from voxward.attacks.objectives.weights import Weights, check_weights, weights_of, wide
from voxward.core.model import Scores, Truth, Values, annotated_part

_PERCENT = 10


@dataclass(frozen=True)
class FrontierLoss:
    """Minus the mean margin of the tenth of a class that falls next, the mean over the classes of the ground truth.

    The margin of a voxel that is still correct is the true logit minus the greatest other one (for regions |z|). Of
    each class in the ground truth, the background included, the tenth of these voxels with the smallest margins counts,
    rounded up. A class that has no correct voxel left is 0, the highest value, and stays in the mean. For regions, the
    0 and the 1 of each region are such classes.

    Attributes:
        class_weights: Weights of the classes or regions; None: 1 each.

    Raises:
        UserError: The weights are illegal or, when the loss is computed, not one per class or region.
    """

    class_weights: Weights = None

    def __post_init__(self) -> None:
        check_weights(self.class_weights)

    def __call__(self, logits: Scores, target: Truth, progress: float) -> Values:
        """Compute the loss.

        Args:
            logits: Logits (b, k, *spatial).
            target: The ground truth.
            progress: Not used.

        Returns:
            One value per case (b).
        """
        z, (y, known) = wide(logits), annotated_part(target)
        regions, k = y.ndim == z.ndim, z.shape[1]
        weights = z.new_ones(k) if self.class_weights is None else weights_of(self.class_weights, z)
        groups, count = y, k
        if regions:
            groups = y + 2 * torch.arange(k, device=y.device).view(-1, *(1,) * (z.ndim - 2))
            weights, count = weights.repeat_interleave(2), 2 * k
        if known is not None:
            groups = groups.masked_fill(~known, count)  # a group of its own, which is not read
        right = correct(z, y).bool().flatten(1)
        cases = zip(margin(z, y).flatten(1), groups.flatten(1), right, strict=True)
        return torch.stack([_frontier(*case, weights) for case in cases])


def _frontier(margins: Tensor, groups: Tensor, right: Tensor, weights: Tensor) -> Tensor:
    """The loss of one case, from the margins (n), the classes (n) and which voxels are correct (n)."""
    present = (groups.bincount(minlength=len(weights) + 1)[:-1] > 0).to(weights)
    total = margins[:0].sum()  # 0, of which there is a gradient even where no voxel is correct
    for group, weight in enumerate(weights):
        left = margins[right & (groups == group)]
        if len(left):
            total = total + weight * left.topk(-(-len(left) * _PERCENT // 100)).values.mean()
    return total / (present * weights).sum().clamp_min(1e-30)
