"""The part of a recipe that says how a volume is predicted window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voxward.core.recipe.checks import below, wrong_axes


@dataclass(frozen=True)
class Inference:
    """How a volume is predicted window by window.

    Args:
        overlap: The share (0 up to, but not including, 1) of a window that neighbouring windows have in common.
        weights: How overlapping windows are blended.
        mirror_axes: The axes (0, 1, 2) along which a window is flipped for `tta: mirrors`, in all combinations.
        placement: Where windows lie. `step` puts them at the distance that `overlap` gives. `count` spreads
            floor(length / window) + extra_windows of them evenly over each axis, as in the ResDSN paper; `heartseg`
            does the same by the rule of the released code.
        extra_windows: The number of additional windows per axis of the last two, at least 1.
        combine: `mean` averages the logits of overlapping windows. With `vote`, every window has one vote per voxel;
            the weights must then be `constant`. An attack follows the mean, and its deployed Dice is that of the vote.
            Ensembles cannot vote.
        tta: The copies of a window that are averaged: `mirrors` (see mirror_axes), or `symmetries`, the 16 symmetries
            of a volume with square axial slices.
        mean: What is averaged over these copies and over the runs of an ensemble: `logits` or `probabilities`.
        checkpoint: The weights that are deployed: `best`, `last`, or `swa`, the mean that `averaging` makes.
        sides: The classes or regions that differ in left and right. Test-time augmentation does not exchange left and
            right then. A training writes them, from `augmentation.sides`.
        mirror_pairs: The classes that are exchanged in the logits of windows that are mirrored left to right; with
            them, test-time augmentation mirrors this axis, too. A training writes them, from
            `augmentation.mirror_pairs`.
    """

    overlap: float = 0.5
    weights: str = "inverse-distance"
    mirror_axes: tuple[int, ...] = ()
    placement: str = "step"
    extra_windows: int = 6
    combine: Literal["mean", "vote"] = "mean"
    tta: Literal["mirrors", "symmetries"] = "mirrors"
    mean: Literal["logits", "probabilities"] = "logits"
    checkpoint: Literal["best", "last", "swa"] = "best"
    sides: tuple[str, ...] = ()
    mirror_pairs: tuple[tuple[str, str], ...] = ()

    def problems(self) -> list[str]:
        """Return one sentence for each value that is out of range."""
        found = [] if 0 <= self.overlap < 1 else [f"overlap must be in [0, 1), got {self.overlap}"]
        found += below(1, extra_windows=self.extra_windows)
        return found + wrong_axes("mirror_axes", self.mirror_axes)
