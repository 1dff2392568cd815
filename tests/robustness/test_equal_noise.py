"""Noise as strong as an attack: its size in the written file, its distribution, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from voxward.attacks.threat import ThreatModel
from voxward.core.case import Volume
from voxward.data.stored_values import as_read
from voxward.robustness.skipped import NotApplicable
from voxward.robustness.trials.equal_noise import as_strong_as, gaussian, rician

SHAPE = (1, 2, 20, 20, 20)
BOUNDS = ((0.0, 1000.0), (0.0, 200.0))
DRAWS = {"gaussian": gaussian, "rician": rician}


def magnitudes(low=300.0, high=700.0):
    """Two channels, a quarter of which is air of exactly 0."""
    random = np.random.default_rng(0)
    array = np.rint(random.uniform(low, high, SHAPE)) * np.array([1.0, 0.2]).reshape(1, 2, 1, 1, 1)
    array[..., :5] = 0
    return torch.from_numpy(np.rint(array).astype(np.float32))


def noise(name, rms, volume=None, seed=0, kind=np.float32, bounds=BOUNDS, **threat):
    """The noisy volume, and what a file of a number type holds of it."""
    volume = magnitudes() if volume is None else volume
    clean = Volume(volume[0].numpy().astype(kind), np.eye(4))
    zeros = (True,) * len(bounds) if bounds is BOUNDS else ()
    ball = ThreatModel(8 / 255, bounds=bounds, zeros=zeros, **threat).ball(volume)
    noisy = DRAWS[name](ball, torch.Generator().manual_seed(seed))

    def as_written(array):
        return as_read(array, clean).array

    found = as_strong_as(rms, noisy, ball, as_written)
    return found, as_written(found[0].numpy())


def rms_of(written, volume, bounds=BOUNDS):
    shares = [(written[n] - volume[0, n].numpy()) / (high - low) for n, (low, high) in enumerate(bounds)]
    return float(np.sqrt(np.mean(np.square(np.stack(shares, dtype=np.float64)))))


@pytest.mark.parametrize("name", list(DRAWS))
@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_the_file_changes_by_what_was_asked(name, kind):
    for asked in (0.002, 0.02):
        _, written = noise(name, asked, kind=kind)
        # Whole numbers of 1 in 200 are coarse beside 0.002; of many voxels the sum is fine all the same.
        assert rms_of(written, magnitudes()) == pytest.approx(asked, rel=1e-3)


def test_air_and_the_limits_of_the_file_stay():
    bright = magnitudes(32000.0, 32766.0)
    for name in DRAWS:
        found, written = noise(name, 0.05, bright, kind=np.int16, limits=(-32768.0, 32767.0))
        assert bool((found[bright == 0] == 0).all())
        assert float(found.max()) <= 32767.0
        assert rms_of(written, bright) == pytest.approx(0.05, rel=1e-3)


def test_where_the_limits_allow_no_more_the_most_is_made():
    """Every voxel is at one of its limits, so that it may go one way only."""
    binary = (torch.arange(4000).reshape(1, 1, 20, 20, 10) % 2).float()
    bounds = ((0.0, 1.0),)
    reached = rms_of(noise("gaussian", 0.99, binary, bounds=bounds, limits=(0.0, 1.0))[1], binary, bounds)
    assert reached == pytest.approx(np.sqrt(0.5), rel=0.05)  # half of the draws go there


def test_the_same_seed_draws_the_same_noise():
    first, again, other = (noise("gaussian", 0.01, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gaussian_noise_is_gaussian():
    volume = magnitudes()
    found, _ = noise("gaussian", 0.02)
    shares = ((found - volume) / torch.tensor([1000.0, 200.0]).view(1, 2, 1, 1, 1))[volume > 0].numpy()
    assert abs(shares.mean()) < 0.001
    assert np.mean(np.abs(shares) < shares.std()) == pytest.approx(0.683, abs=0.015)


def test_rician_noise_lifts_the_signal():
    """Its second moment is x^2 + 2 s^2: that of a magnitude whose two parts each have noise of s."""
    volume = torch.full((1, 1, 40, 40, 40), 30.0)
    ball = ThreatModel(0.5, bounds=((0.0, 100.0),)).ball(volume)
    wide = replace(ball, low=torch.zeros(1), high=torch.full((1,), 1e6))
    found = rician(wide, torch.Generator().manual_seed(0))(0.2).double()
    assert float(found.square().mean()) == pytest.approx(30.0**2 + 2 * 20.0**2, rel=0.01)
    assert float(found.min()) >= 0
    assert float(found.mean()) > 35


def test_rician_noise_means_nothing_below_zero():
    with pytest.raises(NotApplicable, match=r"no intensities below 0; the lowest is -1024"):
        noise("rician", 0.02, magnitudes() - 1024.0)
    # Where the papers' reference is clipped at 0, there are none left.
    assert bool((noise("rician", 0.02, magnitudes(-50.0, 900.0), reference="window")[0] >= 0).all())


def test_no_attack_no_noise():
    for name in DRAWS:
        assert torch.equal(noise(name, 0.0)[0], magnitudes())
