"""Volumes of whole numbers: what the file can hold, never outside the ball, against every intensity tried out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voxward.attacks.threat import ThreatModel

KINDS = {"uint8": (0, 255), "int16": (-1024, 3071), "uint16": (0, 65535)}


def _numbers(seed, kind, slope, intercept, dtype):
    """Intensities of a file, (2, 1, 3, 4), and the step between two of them."""
    low, high = KINDS[kind]
    whole = np.random.default_rng(seed).integers(low, high, (2, 1, 3, 4), endpoint=True)
    return torch.from_numpy(whole * slope + intercept).to(dtype), abs(slope)


def _held(value, origin, step, low, high):
    """Every intensity of the file near a voxel that lies within two ends, by trying them out in float64."""
    first = int(np.floor((value - origin) / step)) - 400
    tried = origin + step * np.arange(first, first + 801)
    return tried[(tried >= low) & (tried <= high)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reference", ["raw", "window"])
@pytest.mark.parametrize("scale", [(1.0, 0.0), (0.25, -7.0), (-0.1, 3.3)])
def test_the_stored_volume_is_the_nearest_one_that_the_file_can_hold(dtype, reference, scale):
    random = np.random.default_rng(1)
    for seed, kind in enumerate(10 * tuple(KINDS)):
        volume, step = _numbers(seed, kind, *scale, dtype)
        bounds = sorted(random.uniform(float(volume.min()), float(volume.max()), 2))
        eps = step * random.choice([0.0, 0.4, 1.0, 2.5, 8.0, 60.0])
        threat = ThreatModel(eps, "linf", "native", reference, (tuple(bounds),), steps=(step,))
        ball = threat.ball(volume)
        point = ball.reference + 1.5 * (eps + step) * (torch.rand(volume.shape).to(dtype) * 2 - 1)
        found = ball.stored(point)
        assert ball.holds(found).all()
        assert torch.equal(ball.stored(found), found)
        slack = 4 * torch.finfo(dtype).eps * float(volume.abs().max())
        columns = (volume, ball.reference, point, found, *(x.expand(volume.shape) for x in (ball.low, ball.high)))
        for origin, near, wanted, got, low, high in zip(*(x.double().flatten().tolist() for x in columns), strict=True):
            ends = max(near - eps, low), min(near + eps, high)
            surely, perhaps = (_held(near, origin, step, ends[0] - by, ends[1] + by) for by in (-slack, slack))
            if surely.size:
                assert abs(got - wanted) <= np.abs(surely - wanted).min() + slack
            assert np.abs(perhaps - got).min() <= slack if perhaps.size and got != near else got == near


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_stored_volume_stays_in_a_ball_of_any_norm(dtype, kind):
    random = np.random.default_rng(2)
    for seed in range(30):
        volume, step = _numbers(seed, kind, 1.0, 0.0, dtype)
        eps = float(random.choice([0.3, 1.0, 3.7, 20.0]))
        ball = ThreatModel(eps, "l2", "native", bounds=((0.0, 100.0),), steps=(step,)).ball(volume)
        point = volume + 3 * torch.randn(volume.shape).to(dtype)
        for gradient in (None, torch.randn(volume.shape).to(dtype)):
            found = ball.stored(point, gradient)
            assert ball.holds(found).all()
            assert ball.distance(found).max() <= eps * (1 + 1e-6)
            assert torch.equal(found, found.round())


def test_the_l2_ball_is_used_up_by_the_greatest_gradients():
    volume = torch.zeros(1, 1, 2, 2)
    ball = ThreatModel(2.0, "l2", "native", bounds=((0.0, 9.0),), steps=(1.0,)).ball(volume)
    point = torch.full_like(volume, 0.9)  # rounded up everywhere it has the norm 2, which is legal
    assert ball.stored(point).flatten().tolist() == [1.0, 1.0, 1.0, 1.0]
    small = ThreatModel(1.5, "l2", "native", bounds=((0.0, 9.0),), steps=(1.0,)).ball(volume)
    gradient = torch.tensor([[[[1.0, 4.0], [2.0, 3.0]]]])
    assert small.stored(point, gradient).flatten().tolist() == [0.0, 1.0, 0.0, 1.0]


def test_a_gradient_chooses_between_two_intensities():
    volume = torch.tensor([[[[10.0, 10.0, 10.0, 10.0, 255.0]]]])
    threat = ThreatModel(2.5, unit="native", bounds=((0.0, 255.0),), limits=(0.0, 255.0), steps=(1.0,))
    point = volume + torch.tensor([0.2, 0.2, -1.5, 2.4, 0.0])
    gradient = torch.tensor([1.0, -1.0, 2.0, 3.0, 5.0]).view(1, 1, 1, 5)
    assert threat.ball(volume).stored(point, gradient).flatten().tolist() == [11.0, 10.0, 9.0, 12.0, 255.0]
    assert threat.ball(volume).stored(point).flatten().tolist() == [10.0, 10.0, 8.0, 12.0, 255.0]


def test_air_stays_air_and_a_radius_below_one_step_leaves_the_reference():
    volume = torch.tensor([[[[0.0, 3.0, 9.0]]]])
    threat = ThreatModel(2.0, unit="native", bounds=((1.0, 9.0),), zeros=(True,), steps=(1.0,))
    assert threat.ball(volume).stored(volume - 1.7).flatten().tolist() == [0.0, 1.0, 7.0]
    below = threat.with_eps(0.9).ball(volume)
    assert torch.equal(below.stored(below.project(volume + 5)), volume)
    assert not below.movable
    assert threat.with_eps(1.0).ball(volume).movable


def test_without_steps_a_file_holds_any_volume():
    volume = torch.rand(2, 1, 3, 3)
    ball = ThreatModel(0.1, bounds=((0.0, 1.0),)).ball(volume)
    assert ball.stored(volume + 9) is not None
    assert torch.equal(ball.stored(volume + 9), volume + 9)
    assert ball.writable(volume + 9).all()


@pytest.mark.parametrize("steps", [(0.0,), (-1.0,), (float("nan"),)])
def test_steps_that_are_none_are_refused(steps):
    with pytest.raises(ValueError, match="steps must be"):
        ThreatModel(0.1, steps=steps)
    with pytest.raises(ValueError, match="steps must be empty or one per channel"):
        ThreatModel(0.1, bounds=((0.0, 1.0),), steps=(1.0, 1.0)).ball(torch.zeros(1, 1, 2, 2))
