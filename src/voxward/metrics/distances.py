"""Metrics of the distance between two surfaces: 95th percentile Hausdorff distance and surface Dice (NSD)."""

from __future__ import annotations

from voxward.metrics.comparison import Comparison
from voxward.metrics.metric import Metric
from voxward.metrics.nsd import NSD_DEFINITIONS


def hd95_mm(masks: Comparison) -> float | None:
    """The 95th percentile Hausdorff distance in mm; what the policy says where a mask is empty."""
    policy = masks.policy
    if policy.lesions is not None:
        return masks.by_lesion(policy.lesions).hd95_mm
    if masks.in_neither:
        return policy.both_hd95_mm
    if not masks.in_both:
        return policy.one_hd95_mm(masks.maps.diagonal_mm)
    if not masks.distances.to_truth.size:  # in the annotated part, one of the masks has no surface
        return None
    return masks.distances.pooled_hd95_mm if policy.pooled else masks.distances.hd95_mm


def nsd(masks: Comparison) -> float | None:
    """The surface Dice in [0, 1]; what the policy says where both masks are empty, 0 where only one is."""
    if masks.in_neither:
        return masks.policy.both_score
    scoring = masks.scoring
    return NSD_DEFINITIONS[scoring.nsd].measure(masks, scoring.nsd_tolerance_mm) if masks.in_both else 0.0


HD95 = Metric(hd95_mm, "HD95 mm", digits=2, larger_is_better=False, short="HD95\nmm")
NSD = Metric(nsd, "{nsd_label} {nsd_tolerance_mm:g} mm", short="{nsd_label}\n{nsd_tolerance_mm:g} mm")
