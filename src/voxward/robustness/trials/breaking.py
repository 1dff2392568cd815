"""The smallest perturbation whose written file breaks a case, from one whose computed array does.

An array that breaks a case need not do so as a file: a file may hold whole numbers only, and the deployed system finds
crop box and statistics itself and computes in its own precision. So files decide, of perturbations along one ray.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from voxward.attacks.fab import MinimumNormResult
from voxward.attacks.fab_boundary import without_radius
from voxward.attacks.threat import Ball
from voxward.core.model import Inputs

Judge = Callable[[Inputs], tuple[float, float]]
"""From a volume (1, c, *spatial) to the mean Dice of its file, and the norm of the perturbation in the file."""

GROWTH = 1.05
"""How much longer each next perturbation is, where the file does not break the case yet."""
LONGEST = 2.0
"""The longest perturbation that is tried, as a multiple of the array's."""
FIRST_GAP = 1 / 32
"""How much shorter the first perturbation is where the file breaks the case; each next gap is twice as wide."""
SAME = 1e-6
"""Sizes that differ by less than this share are the same."""
HALVINGS = 2
"""Bisections between the longest perturbation whose file does not break the case and the shortest whose file does."""
MOST = 1 + math.ceil(math.log(LONGEST) / math.log(GROWTH)) + HALVINGS
"""The greatest number of files that are written and segmented."""


@dataclass(frozen=True, eq=False)
class Broken:
    """The smallest perturbation found whose file breaks the case.

    Attributes:
        volume: The perturbed volume (1, c, *spatial); the array that was given where no file breaks the case.
        distance: The norm of the perturbation in the file, in the unit of eps; None where no file breaks the case.
        files: How many files were written and segmented.
    """

    volume: Inputs
    distance: float | None
    files: int


def smallest_broken_file(judge: Judge | None, ball: Ball, least: MinimumNormResult) -> Broken:
    """Judge files along the ray through an array that breaks a case, and return the smallest one that breaks it, too.

    Where the array's own file does not, the perturbation grows in small steps, up to twice its length. Where it does,
    shorter ones are tried. A short bisection ends either search.

    Args:
        judge: Writes a volume as a file and segments it. None: there is no pipeline to deploy, so that there are no
            files, and the array's distance counts.
        ball: The legal volumes around the case, of any radius, and what a file can hold.
        least: What a minimum-norm attack found on this case.
    """
    distance = float(least.distance[0])
    if math.isinf(distance):
        return Broken(least.adversarial, None, 0)
    if judge is None:
        return Broken(least.adversarial, distance, 0)
    return _Ray(judge, without_radius(ball), least.adversarial, float(least.threshold[0])).search()


class _Ray:
    """Perturbations along a ray from the reference, by their length as a multiple of the array's."""

    def __init__(self, judge: Judge, ball: Ball, end: Inputs, threshold: float) -> None:
        self.judge, self.ball, self.end, self.threshold = judge, ball, end, threshold
        self.files, self.shortest, self.distance, self.best = 0, math.inf, math.inf, end

    def search(self) -> Broken:
        """Search from the array's own length outwards, or inwards."""
        whole = self._inwards() if self._breaks(1.0) else self._outwards()
        if math.isinf(self.distance):
            return Broken(self.end, None, self.files)
        for _ in range(HALVINGS):
            middle = (whole + self.shortest) / 2
            if not self._breaks(middle):
                whole = middle
        return Broken(self.best, self.distance, self.files)

    def _outwards(self) -> float:
        """Go on until a file breaks the case, and return the last length that does not."""
        length, whole = GROWTH, 1.0
        while length <= LONGEST and not self._breaks(length):
            length, whole = length * GROWTH, length
        return whole

    def _inwards(self) -> float:
        """Go back until a file does not break the case, and return its length."""
        gap = FIRST_GAP
        while gap < 1 and self._breaks(1 - gap):
            gap *= 2
        return max(0.0, 1 - gap)

    def _breaks(self, length: float) -> bool:
        """Judge the file of a perturbation; where it is no smaller than one that breaks the case, nothing is asked."""
        reference = self.ball.reference
        volume = self.ball.stored(self.ball.project(reference + length * (self.end - reference)))
        if float(self.ball.distance(volume)[0]) >= self.distance * (1 - SAME):
            self.shortest = min(length, self.shortest)
            return True
        dice, distance = self.judge(volume)
        self.files += 1
        broken = dice < self.threshold or dice <= 0
        if broken:
            self.best, self.distance, self.shortest = volume, distance, length
        return broken
