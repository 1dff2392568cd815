"""The Dice coefficient of a class, or, under a policy that counts lesions, its mean over lesions."""

from __future__ import annotations

from voxward.metrics import overlap
from voxward.metrics.comparison import Comparison
from voxward.metrics.metric import Metric


def dice(masks: Comparison) -> float | None:
    """Dice in [0, 1]; what the policy says where both masks are empty, 0 where only one is."""
    rule = masks.policy.lesions
    if rule is not None:
        return masks.by_lesion(rule).dice
    return masks.policy.both_score if masks.in_neither else overlap.dice(masks.counts)


DICE = Metric(dice, "Dice")
