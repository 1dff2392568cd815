"""An attack with expectation over noise, 100 steps in the Euclidean ball, never gets below what is certified."""

from __future__ import annotations

from statistics import median_low

import numpy as np
import pytest
import torch
from torch import nn

from voxward.attacks import ThreatModel, create
from voxward.attacks.smoothed import smoothed
from voxward.certificates import Frame, Part, Votes, certified_median, certify_mask, dice_bound, noisy, stream
from voxward.core.model import PatchModel

SHAPE, SIGMA, RUNS = (1, 6, 5, 4), 0.1, 200
FRAME = Frame((0.0,), (1.0,), np.zeros(SHAPE, bool))


class Blurred(nn.Module):
    """The class where the mean over a voxel's neighbours is above a half: voxels depend on each other."""

    def forward(self, x):
        mean = nn.functional.avg_pool3d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat([torch.zeros_like(mean), 20 * (mean - 0.5)], 1)


def run(model: PatchModel, volume: np.ndarray, truth: np.ndarray, name: str) -> tuple[list[float], Votes]:
    """The Dice of noisy runs, and how often each voxel was marked."""
    votes, dice = Votes.none(2, SHAPE[1:]), []
    for number in range(RUNS):
        drawn = torch.from_numpy(noisy(volume, SIGMA, FRAME, stream(name, number)).astype(np.float32))[None]
        mask = model.segment(model.logits(drawn))[0].numpy()
        votes.add(mask)
        dice.append(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())))
    return dice, votes


@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_an_attack_stays_above_the_certificate(radius: float) -> None:
    truth = np.zeros(SHAPE[1:], np.int64)
    truth[1:5, 1:4, 1:3] = 1
    volume, model = 0.25 + 0.6 * truth[None].astype(np.float32), PatchModel(Blurred())
    dice, votes = run(model, volume, truth, "clean")
    bound = certified_median(dice, radius)
    mask = certify_mask(votes, [Part("a", (1,))], tau=0.75)
    mask_bound = dice_bound(truth == 1, mask.inside[0], mask.outside[0])
    assert bound is not None
    assert mask_bound is not None
    assert bound > 0.4  # not vacuous
    assert mask_bound > 0.1

    threat = ThreatModel(radius * SIGMA, "l2", bounds=((0.0, 1.0),))
    attack = create("pgd-dice", steps=100)
    under_noise = smoothed(model, torch.full((1, *SHAPE), SIGMA), seed=0, draws=2)
    asked = torch.from_numpy(volume)[None], torch.from_numpy(truth)[None]
    found = attack(under_noise, *asked, threat, 0, warn=False).adversarial[0].numpy()
    assert 0.9 * radius * SIGMA < np.linalg.norm(found - volume) <= radius * SIGMA * (1 + 1e-5)

    struck, marked = run(model, found, truth, "struck")
    assert bound <= median_low(struck) < median_low(dice)
    if radius <= mask.radius:
        agreed = (marked.counts[0] > RUNS / 2) & True
        assert not (mask.inside[0] & ~agreed).any()
        assert not (mask.outside[0] & agreed).any()
        assert 2 * (agreed & (truth == 1)).sum() / (agreed.sum() + truth.sum()) >= mask_bound
