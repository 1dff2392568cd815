"""Metrics that are ratios of voxel counts, beside the Dice: IoU, sensitivity, specificity."""

from __future__ import annotations

from voxward.metrics import overlap
from voxward.metrics.comparison import Comparison
from voxward.metrics.metric import Metric


def iou(masks: Comparison) -> float | None:
    """The Jaccard index in [0, 1]; what the policy says where both masks are empty, 0 where only one is."""
    return masks.policy.both_score if masks.in_neither else overlap.iou(masks.counts)


def sensitivity(masks: Comparison) -> float | None:
    """The share of the true voxels that was found, in [0, 1]; None where the true mask is empty."""
    return overlap.sensitivity(masks.counts)


def specificity(masks: Comparison) -> float | None:
    """The share of the other voxels that was left alone, in [0, 1].

    It is None where the class fills the volume, and where both masks are empty and the policy leaves that out.
    """
    if masks.in_neither and masks.policy.both_score is None:
        return None
    return overlap.specificity(masks.counts)


IOU = Metric(iou, "IoU")
SENSITIVITY = Metric(sensitivity, "sensitivity", short="sens.")
SPECIFICITY = Metric(specificity, "specificity", digits=4, short="spec.")
