"""Certificates by randomised smoothing: what no change up to a size can do to a system that is run under noise."""

from voxward.certificates.binomial import CORRECTIONS, smallest_count
from voxward.certificates.changes import CHANGES
from voxward.certificates.counts import Votes
from voxward.certificates.mask import CertifiedMask, Part, certify_mask, dice_bound
from voxward.certificates.median import certified_median, order_statistic
from voxward.certificates.noise import Frame, noisy, stream
from voxward.certificates.plan import CertificatePlan

__all__ = [
    "CHANGES",
    "CORRECTIONS",
    "CertificatePlan",
    "CertifiedMask",
    "Frame",
    "Part",
    "Votes",
    "certified_median",
    "certify_mask",
    "dice_bound",
    "noisy",
    "order_statistic",
    "smallest_count",
    "stream",
]
