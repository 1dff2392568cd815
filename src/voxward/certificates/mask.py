"""The certified mask: where a system under noise says a class, or says that it is not there, whatever the change is.

Per voxel and class there are two one-sided tests: "more than tau of the noisy runs say the class", and "more than tau
say another one". All tests of a case are corrected together, so that with a probability of 1 - alpha every certified
answer is right at once. Then, by the lemma of Neyman and Pearson, more than half of the noisy runs give that answer on
every volume within a radius of sigma * Phi^-1(tau).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from voxward.certificates.binomial import smallest_count
from voxward.certificates.counts import Votes


@dataclass(frozen=True)
class Part:
    """A class, a region, or a coarser group of classes that is certified.

    Attributes:
        name: Its name.
        classes: The indices of the foreground classes in it, each once.
    """

    name: str
    classes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CertifiedMask:
    """What is certain of a case at one threshold.

    Attributes:
        tau: The threshold of the probability.
        enough: How many of the runs must agree; None where even all of them are too few.
        runs: The number of runs.
        inside: For each part, where it is certain that the system says it; booleans (parts, i, j, k).
        outside: For each part, where it is certain that the system says that it is not there.
    """

    tau: float
    enough: int | None
    runs: int
    inside: np.ndarray
    outside: np.ndarray

    @property
    def radius(self) -> float:
        """The radius in units of sigma, within which every certified answer stays."""
        return radius_of(self.tau)

    @property
    def decided(self) -> np.ndarray:
        """Where every part is certain, so that the system's answer is known; booleans (i, j, k)."""
        known: np.ndarray = (self.inside | self.outside).all(0)
        return known

    @property
    def coarser(self) -> np.ndarray:
        """Where the answer is not known, but a region that it is in: instead of abstaining, the region is certified.

        See AdaptiveCertify (Anani et al., ICML 2024).
        """
        found: np.ndarray = self.inside.any(0) & ~self.decided
        return found


def radius_of(tau: float) -> float:
    """Return the radius in units of sigma that a threshold stands for, Phi^-1(tau)."""
    return float(norm.ppf(tau))


def certify_mask(
    votes: Votes,
    parts: Sequence[Part],
    tau: float = 0.75,
    alpha: float = 0.001,
    correction: str = "holm",
    known: np.ndarray | None = None,
) -> CertifiedMask:
    """Test every voxel and part, and return which answers are certain, all at once.

    Where regions are nested, certainty is, too: a voxel that is certain to be in the enhancing tumour is certain to be
    in the whole tumour, because at least as many runs say so and all tests have the same limit.

    Args:
        votes: The counts of the noisy runs.
        parts: What is certified: classes, regions and coarser groups of classes.
        tau: The threshold of the probability, in [0.5, 1).
        alpha: The probability that any certified answer is wrong.
        correction: `holm`, or `bonferroni`, which certifies less.
        known: Where the truth is annotated, booleans (i, j, k); the other voxels are not tested, and count nowhere.
            None: everywhere.

    Raises:
        UserError: A number is not legal.
    """
    runs, where = votes.runs, np.ones(votes.counts.shape[1:], bool) if known is None else known
    tests = np.zeros(runs + 1, np.int64)
    for part in parts:  # the counts of a part are added up twice: those of all parts together may not fit the memory
        found = np.bincount(votes.of(part.classes)[where], minlength=runs + 1)
        tests += found + found[::-1]  # the class, and everything else
    enough = smallest_count(tests, tau, alpha, correction)
    shape = (len(parts), *where.shape)
    inside, outside = np.zeros(shape, bool), np.zeros(shape, bool)
    if enough is not None:
        for n, part in enumerate(parts):
            counts = votes.of(part.classes)
            inside[n], outside[n] = (counts >= enough) & where, (counts <= runs - enough) & where
    return CertifiedMask(tau, enough, runs, inside, outside)


def dice_bound(truth: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> float | None:
    """Return the lowest Dice of any mask that agrees with the certain voxels.

    The adversary marks every uncertain voxel outside of the truth, and none inside:
    2 |C and G| / (|G| + |C| + |U minus G|) for the certain voxels C, the uncertain ones U and the truth G.

    Args:
        truth: Where the class is, booleans of any shape. Only annotated voxels may be given.
        inside: Where it is certain that the class is marked.
        outside: Where it is certain that the class is not marked.

    Returns:
        The Dice in [0, 1]; None where the class is in no voxel of the truth and certainly in none of the mask.
    """
    uncertain = ~(inside | outside)
    hit = int(np.count_nonzero(inside & truth))
    total = sum(int(np.count_nonzero(mask)) for mask in (truth, inside, uncertain & ~truth))
    return 2 * hit / total if total else None
