"""Objectives that are made of the Dice of a whole case."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.attacks.objectives.mean import VoxelLoss
from voxward.attacks.objectives.rules import cross_entropy, margin
from voxward.attacks.objectives.weights import Weights, check_weights, weights_of, wide
from voxward.core.errors import UserError
from voxward.core.model import Scores, Truth, Values, annotated_part


@dataclass(frozen=True)
class SoftDiceLoss:
    """One minus the soft Dice, the mean over the foreground classes (or regions) that are in the ground truth.

    It couples all voxels of a case. The soft Dice is 2 sum(p t) / (sum p + sum t), without smoothing. A case with empty
    ground truth is driven to predict anything: its value is 1 - 1 / (1 + sum p), the mean over all foreground classes.

    Attributes:
        class_weights: Weights of the classes or regions; None: 1 each.
        temperature: What the logits are divided by, above 0. Below 1 the soft Dice comes closer to the Dice of the
            mask, and its gradient to the voxels near the decision boundary.

    Raises:
        UserError: The temperature is not above 0, or the weights are illegal or, when the loss is computed, not one per
            class or region.
    """

    class_weights: Weights = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_weights(self.class_weights)
        _check_temperature(self.temperature)

    def __call__(self, logits: Scores, target: Truth, progress: float) -> Values:
        """Compute the loss.

        Args:
            logits: Logits (b, k, *spatial).
            target: The ground truth.
            progress: Not used.

        Returns:
            One value per case (b).
        """
        z, (y, known) = wide(logits) / self.temperature, annotated_part(target)
        regions = y.ndim == z.ndim
        t = foreground(y, None if regions else z.shape[1]).to(z)
        p = z.sigmoid() if regions else z.softmax(1)[:, 1:]
        if known is not None:
            p = p * (known if regions else known[:, None])
        size = t.flatten(2).sum(2)
        absent = (size == 0).to(z)
        dice = (2 * (p * t).flatten(2).sum(2) + absent) / (p.flatten(2).sum(2) + size + absent)
        weights = torch.where(absent.all(1, keepdim=True), absent, 1 - absent)
        if self.class_weights is not None:
            weights = weights * weights_of(self.class_weights, z)[0 if regions else 1 :]
        return (weights * (1 - dice)).sum(1) / weights.sum(1).clamp_min(1e-30)


@dataclass(frozen=True)
class SharpDiceLoss:
    """One minus a soft Dice that comes close to the Dice of the mask, whatever the scale of a network's logits.

    The logits are divided by `temperature` times the mean size of the case's margins (see `rules.margin`), so that this
    mean becomes 1 / `temperature`. Voxels near the decision boundary count most, and the gradient does not vanish where
    a network's logits are large. No gradient flows through the divisor.

    Attributes:
        class_weights: Weights of the classes or regions; None: 1 each.
        temperature: The divisor of the logits as a share of the mean size of the margins, above 0.
        annealed: Whether the soft Dice of the logits as they are is where an attack begins, and the divisor grows or
            falls from 1 to its own value, geometrically in progress.

    Raises:
        UserError: The temperature is not above 0, or the weights are illegal or, when the loss is computed, not one per
            class or region.
    """

    class_weights: Weights = None
    temperature: float = 0.2
    annealed: bool = False

    def __post_init__(self) -> None:
        check_weights(self.class_weights)
        _check_temperature(self.temperature)

    def __call__(self, logits: Scores, target: Truth, progress: float) -> Values:
        """Compute the loss.

        Args:
            logits: Logits (b, k, *spatial).
            target: The ground truth.
            progress: The share of the attack's steps that are done, 0 to 1.

        Returns:
            One value per case (b).
        """
        z = wide(logits)
        divisor = self.divisor(z, target, progress).view(-1, *(1,) * (z.ndim - 1))
        return SoftDiceLoss(self.class_weights)(z / divisor, target, progress)

    def divisor(self, logits: Scores, target: Truth, progress: float) -> Values:
        """Return what the logits of each case are divided by (b), without a gradient.

        Args:
            logits: Logits (b, k, *spatial).
            target: The ground truth.
            progress: The share of the attack's steps that are done, 0 to 1.
        """
        z, (y, known) = wide(logits.detach()), annotated_part(target)
        sizes = margin(z, y).abs().flatten(1)
        counted = torch.ones_like(sizes) if known is None else known.flatten(1).to(sizes)
        mean = (sizes * counted).sum(1) / counted.sum(1).clamp_min(1)
        # Without any margin there is no scale to find.
        found = torch.where(mean > 0, self.temperature * mean, 1.0)
        return found**progress if self.annealed else found


@dataclass(frozen=True)
class DiceCrossEntropy:
    """One minus the soft Dice plus the mean cross-entropy, which most networks are trained to lower.

    Attributes:
        class_weights: Weights of the classes or regions in both parts; None: 1 each.

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
        dice, voxels = SoftDiceLoss(self.class_weights), VoxelLoss(cross_entropy, self.class_weights)
        return dice(logits, target, progress) + voxels(logits, target, progress)


def foreground(y: Tensor, classes: int | None) -> Tensor:
    """Return where each foreground class or region is, booleans (b, f, *spatial).

    Args:
        y: The ground truth, without voxels that are not annotated.
        classes: The number of classes, the background included; None for regions.
    """
    if classes is None:
        return y == 1
    return y[:, None] == torch.arange(1, classes, device=y.device).view(-1, *(1,) * (y.ndim - 1))


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature must be above 0 and finite, got {temperature}")
