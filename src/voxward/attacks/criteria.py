"""How a final mask is judged: by the hard Dice per class and case, on the device of the logits."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.devices import wide
from voxward.core.model import Scores, Truth, Values, VolumeModel, annotated_part


def class_dice(mask: Truth, target: Truth, classes: int | None = None) -> Float[Tensor, "b k"]:
    """Compute the Dice 2 TP / (2 TP + FP + FN) per case and foreground class or region.

    Args:
        mask: Class indices (b, *spatial), or 0 and 1 per region (b, k, *spatial).
        target: The ground truth in the same form.
        classes: The number of classes, the background included; None for regions.

    Returns:
        The Dice (b, k), 0 to 1, over the annotated voxels, float64 where the device has that
        (see `devices.wide_type`). It is NaN where a class is in neither the mask nor the ground truth.
    """
    target, known = annotated_part(target)
    if known is not None:
        mask = mask.masked_fill(~known, 0)
    if classes is None:
        hit, size = (mask * target).flatten(2).sum(2), (mask + target).flatten(2).sum(2)
        return 2 * wide(hit) / size  # 0 / 0 is NaN
    pairs = target.flatten(1).long() * classes + mask.flatten(1).long()
    rows = torch.arange(len(pairs), device=pairs.device)[:, None] * classes**2
    counts = torch.bincount((pairs + rows).flatten(), minlength=len(pairs) * classes**2)
    matrix = wide(counts.view(-1, classes, classes))
    if known is not None:  # they were counted as background in both, and a foreground class does not see that
        matrix[:, 0, 0] -= (~known).flatten(1).sum(1)
    hit = matrix.diagonal(dim1=1, dim2=2)
    return (2 * hit / (matrix.sum(1) + matrix.sum(2)))[:, 1:]


def mean_dice(scores: Float[Tensor, "b k"]) -> Values:
    """Compute the mean Dice of each case over its defined classes.

    Args:
        scores: The Dice (b, k), NaN where it is not defined.

    Returns:
        The mean (b). It is 1 where no class is defined, because there was nothing to find and nothing was found.
    """
    return torch.nan_to_num(scores.nanmean(1), nan=1.0)


def judge(model: VolumeModel, logits: Scores, target: Truth) -> Values:
    """Compute the mean foreground Dice per case of the final mask.

    Args:
        model: The model, whose post-processing is applied.
        logits: Its logits (b, k, *spatial).
        target: The ground truth.

    Returns:
        The mean Dice (b), 0 to 1.
    """
    classes = logits.shape[1] if model.head == "softmax" else None
    return mean_dice(class_dice(model.segment(logits), target, classes))
