"""What an empty mask counts, by the name of a convention, and all else that decides how a case is scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from voxward.core.errors import UserError
from voxward.core.registry import Registry
from voxward.metrics.lesions import LesionRule
from voxward.metrics.nsd import NSD_DEFINITIONS
from voxward.metrics.surface import NSD_TOLERANCE_MM

BRATS_PENALTY_MM = 373.13
"""HD95 in mm of a missed or invented region in BraTS: the diagonal of its volumes of 240 x 240 x 155 voxels of 1 mm."""


@dataclass(frozen=True)
class EmptyPolicy:
    """What a class counts that is missing from the truth, from the prediction, or from both.

    None leaves the class out of every mean. Whatever the policy, Dice, IoU and NSD are 0 where only one of the two
    masks is empty, and the sensitivity is None where the truth is empty. The specificity is None where both masks are
    empty, unless `both_score` is given.

    Attributes:
        both_score: Dice, IoU and NSD of a class that is in neither mask.
        both_hd95_mm: HD95 in mm of a class that is in neither mask.
        one_hd95_mm: HD95 in mm of a class that is in only one mask, from the diagonal of the volume in mm.
        pooled: Whether HD95 is the 95th percentile of the distances of both directions together. If not, it is the
            greater of the two directions' own 95th percentiles.
        lesions: A rule by which Dice and HD95 are taken lesion by lesion, see `metrics.lesions`. The rule then also
            says what empty masks count for these two.
    """

    both_score: float | None
    both_hd95_mm: float | None
    one_hd95_mm: Callable[[float], float | None]
    pooled: bool = False
    lesions: LesionRule | None = None


POLICIES: Registry[EmptyPolicy] = Registry(
    "policy for empty masks",
    {
        "ignore": EmptyPolicy(None, None, lambda diagonal: None),
        "one": EmptyPolicy(1.0, 0.0, lambda diagonal: diagonal),
        # The challenge's rule: the diagonal of its own volumes, whatever the volume at hand.
        "brats": EmptyPolicy(1.0, 0.0, lambda diagonal: BRATS_PENALTY_MM),
        "brats-pooled": EmptyPolicy(1.0, 0.0, lambda diagonal: BRATS_PENALTY_MM, pooled=True),
        # From 2023 on: every lesion counts alike, false ones included.
        "brats-2023": EmptyPolicy(1.0, 0.0, lambda diagonal: LesionRule().penalty_mm, False, LesionRule()),
    },
)


@dataclass(frozen=True)
class Scoring:
    """Everything that decides how masks are scored, beside the masks themselves.

    Attributes:
        policy: Name of the policy for empty masks, one of POLICIES.
        nsd_tolerance_mm: Tolerance in mm of the surface Dice (NSD), at least 0.
        nsd: Which surface Dice, one of NSD_DEFINITIONS: `voxels` counts surface voxels, `area` adds up surface area.

    Raises:
        UserError: The policy or the definition is unknown, or the tolerance is negative or not finite.
    """

    policy: str = "ignore"
    nsd_tolerance_mm: float = NSD_TOLERANCE_MM
    nsd: str = "voxels"

    def __post_init__(self) -> None:
        POLICIES[self.policy]
        NSD_DEFINITIONS[self.nsd]
        if not (math.isfinite(self.nsd_tolerance_mm) and self.nsd_tolerance_mm >= 0):
            raise UserError(f"nsd_tolerance_mm must be at least 0, got {self.nsd_tolerance_mm}")

    @property
    def empty(self) -> EmptyPolicy:
        """The policy for empty masks that `policy` names."""
        return POLICIES[self.policy]


STANDARD = Scoring()
"""Undefined values are left out of means, and the surface Dice tolerates 2 mm."""
