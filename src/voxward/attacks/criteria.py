"""How a final mask is judged: hard Dice per class and case, on the device of the logits."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.model import Scores, Truth, Values, VolumeModel


def class_dice(mask: Truth, target: Truth, classes: int | None = None) -> Float[Tensor, "b k"]:
    """2 TP / (2 TP + FP + FN) per case and foreground class (or region), NaN where it is in neither, float64.

    mask, target: class indices (b, *spatial) with `classes` classes, the background included; or, with classes None,
    regions (b, k, *spatial) of 0 and 1.
    """
    if classes is None:
        hit, size = (mask * target).flatten(2).sum(2), (mask + target).flatten(2).sum(2)
        return 2 * hit.double() / size  # 0 / 0 is NaN
    pairs = target.flatten(1).long() * classes + mask.flatten(1).long()
    rows = torch.arange(len(pairs), device=pairs.device)[:, None] * classes**2
    counts = torch.bincount((pairs + rows).flatten(), minlength=len(pairs) * classes**2)
    matrix = counts.view(-1, classes, classes).double()
    hit = matrix.diagonal(dim1=1, dim2=2)
    return (2 * hit / (matrix.sum(1) + matrix.sum(2)))[:, 1:]


def mean_dice(scores: Float[Tensor, "b k"]) -> Values:
    """The mean over the defined classes of each case; 1 where none is defined: nothing to find, nothing found."""
    return torch.nan_to_num(scores.nanmean(1), nan=1.0)


def judge(model: VolumeModel, logits: Scores, target: Truth) -> Values:
    """Mean foreground Dice per case of the final mask."""
    classes = logits.shape[1] if model.head == "softmax" else None
    return mean_dice(class_dice(model.segment(logits), target, classes))
