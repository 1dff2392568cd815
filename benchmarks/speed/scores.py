"""Dice, HD95 and surface Dice of a case: `score_case` against MONAI's three functions, from class maps to numbers.

`score_case` also counts IoU, sensitivity and specificity in that time. MONAI needs one-hot tensors; making them is
part of its work. Surface voxels and percentiles are defined alike, so that all three numbers must agree.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.speed.harness import Duel
from voxward.core.labels import LabelSet
from voxward.core.types import Float3, Size3
from voxward.metrics.policies import Scoring
from voxward.metrics.score import score_case

LABELS = LabelSet(("background", "organ", "tumour"), (0, 1, 2))
TOLERANCE_MM = 2.0
CASES: tuple[tuple[Size3, Float3], ...] = (((128, 128, 128), (1.0, 1.0, 1.0)), ((256, 256, 128), (0.8, 0.8, 1.5)))

Scores = np.ndarray
"""Dice, HD95 in mm and surface Dice (rows) of the foreground classes (columns)."""


def duels() -> Iterator[Duel]:
    for size, spacing in CASES:
        yield _duel(size, spacing)


def _duel(size: Size3, spacing: Float3) -> Duel:
    truth, prediction = _pair(size)

    def ours() -> Scores:
        return _ours(truth, prediction, spacing)

    def peer() -> Scores:
        return _monai(truth, prediction, spacing)

    mine, theirs = ours(), peer()
    np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-6)
    apart = np.abs(mine - theirs).max(axis=1)
    quality = f"Dice {mine[0].mean():.3f}; largest difference: HD95 {apart[1]:.2g} mm, surface Dice {apart[2]:.2g}"
    assert apart[1] <= 1e-3, quality
    assert apart[2] <= 1e-3, quality
    name = f"Dice, HD95, NSD, 3 classes, {' x '.join(map(str, size))}"
    whose = "MONAI compute_dice, compute_hausdorff_distance, compute_surface_dice"
    return Duel(name, ours, peer, whose, 1.0, quality)


def _ours(truth: np.ndarray, prediction: np.ndarray, spacing: Float3) -> Scores:
    case = score_case("case", truth, prediction, spacing, LABELS, Scoring("ignore", TOLERANCE_MM))
    return np.array([[entry[name] for entry in case.classes.values()] for name in ("dice", "hd95_mm", "nsd")])


def _monai(truth: np.ndarray, prediction: np.ndarray, spacing: Float3) -> Scores:
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
    from monai.networks.utils import one_hot

    maps = (torch.from_numpy(array)[None, None] for array in (prediction, truth))
    predicted, true = (one_hot(index, LABELS.count, dtype=torch.uint8) for index in maps)
    limits = [TOLERANCE_MM] * (LABELS.count - 1)
    found = (
        compute_dice(predicted, true, include_background=False),
        compute_hausdorff_distance(predicted, true, percentile=95, spacing=list(spacing)),
        compute_surface_dice(predicted, true, limits, spacing=list(spacing)),
    )
    return np.array([values[0].double().numpy() for values in found])


def _pair(size: Size3) -> tuple[np.ndarray, np.ndarray]:
    """An organ with a tumour in it, and the same moved, with a bumpy surface: class maps (d, h, w) uint8."""
    return _scene(size, 0.0, 0.0), _scene(size, 0.02, 0.04)


def _scene(size: Size3, shift: float, bumps: float) -> np.ndarray:
    """Coordinates run from -1 to 1 along each axis; the bumps are waves of the radius."""
    d, h, w = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in size), indexing="ij", sparse=True)
    wave = 1 + bumps * np.sin(21 * d) * np.sin(17 * h) * np.cos(19 * w)
    organ = (((d - shift) / 0.6) ** 2 + (h / 0.5) ** 2 + ((w + shift) / 0.7) ** 2) < wave
    tumour = (((d - 0.2) / 0.2) ** 2 + ((h - shift) / 0.2) ** 2 + ((w + 0.1) / 0.25) ** 2) < wave
    return np.where(tumour, 2, organ).astype(np.uint8)
