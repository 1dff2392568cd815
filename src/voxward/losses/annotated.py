"""Losses of partly annotated labels: voxels that nobody has annotated count in no sum and in no mean."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from voxward.core.labels import IGNORED, LabelSet
from voxward.losses.types import Loss, MaskedLoss
from voxward.losses.whole import over_batch

# The least smoothing of a Dice whose case may hold no annotated voxel at all: 0 / 0 would be no number.
LEAST_SMOOTH = 1e-8


def of_labels(loss: MaskedLoss, labels: LabelSet | None) -> Loss:
    """Turn a loss that knows a mask into a loss of class indices.

    Args:
        loss: A loss of logits, the ground truth, and which voxels are annotated (b, d, h, w), None for all.
        labels: The labels. With regions the ground truth that `loss` gets is one mask per region (b, r, d, h, w). With
            an ignore label it gets the mask, and background where that is False. None for plain classes.

    Returns:
        A loss of logits (b, k, d, h, w) and class indices (b, d, h, w).
    """
    maps = labels.region_maps if labels is not None and labels.regions else None
    partial = labels is not None and labels.ignore is not None

    def of_indices(logits: Tensor, index: Tensor) -> Tensor:
        if not partial:
            return loss(logits, index if maps is None else maps.to_masks(index))
        annotated = index != IGNORED
        known = index.masked_fill(~annotated, 0)
        return loss(logits, known if maps is None else maps.to_masks(known), annotated)

    return of_indices


def mean_over(values: Tensor, annotated: Tensor) -> Tensor:
    """Return the mean of a loss over the annotated voxels; 0, with the gradient 0, where there is none.

    Args:
        values: The loss of each voxel (b, ..., d, h, w).
        annotated: Which voxels count, booleans of the same shape.
    """
    # Not a product with the mask: what is infinite there would become NaN.
    total, count = over_batch(values.where(annotated, 0.0).sum()), over_batch(annotated.sum().to(values.dtype))
    return total / count.clamp_min(1)


def cross_entropy_over(logits: Tensor, index: Tensor, annotated: Tensor) -> Tensor:
    """Return the mean cross-entropy of the annotated voxels.

    Args:
        logits: Logits (b, k, d, h, w), float32.
        index: Class indices (b, d, h, w), int64.
        annotated: Which voxels are annotated (b, d, h, w).
    """
    return mean_over(F.cross_entropy(logits, index, reduction="none"), annotated)


def binary_cross_entropy_over(logits: Tensor, masks: Tensor, annotated: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over annotated voxels and regions.

    Args:
        logits: Logits (b, r, d, h, w), float32.
        masks: 0 and 1 of each region (b, r, d, h, w), float32.
        annotated: Which voxels are annotated (b, d, h, w).
    """
    values = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    return mean_over(values, annotated[:, None].expand_as(values))
