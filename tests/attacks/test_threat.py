from __future__ import annotations

import math

import pytest
import torch

from voxward.attacks.threat import ThreatModel

CT = ThreatModel(eps=0.1, bounds=((0.0, 10.0),))
TWO = ((0.0, 10.0), (0.0, 2.0))


@pytest.mark.parametrize(
    "options",
    [
        {"eps": -0.1},
        {"eps": math.nan},
        {"eps": 1.5},
        {"eps": 0.1, "norm": "l1"},
        {"eps": 0.1, "unit": "hu"},
        {"eps": 0.1, "reference": "clip"},
        {"eps": 0.1, "bounds": ((1.0, 1.0),)},
        {"eps": 0.1, "bounds": ((0.0, math.inf),)},
    ],
)
def test_illegal_threats_are_refused(options):
    # With run-time type checks on, a name outside the literal is caught by them first.
    with pytest.raises(Exception, match=r"."):
        ThreatModel(**options)


def test_a_ball_needs_one_window_or_one_per_channel():
    with pytest.raises(ValueError, match="no bounds"):
        ThreatModel(eps=0.1).ball(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="one per channel"):
        ThreatModel(eps=0.1, bounds=TWO).ball(torch.zeros(1, 3, 2, 2))


def test_eps_is_a_share_of_each_channels_window_or_an_intensity():
    volume = torch.full((1, 2, 2, 2), 1.0)
    far = torch.full_like(volume, 9.0)
    share = ThreatModel(eps=0.1, bounds=TWO).ball(volume)
    assert share.project(far).flatten(2)[0, :, 0].tolist() == pytest.approx([2.0, 1.2])
    native = ThreatModel(eps=0.1, unit="native", bounds=TWO).ball(volume)
    assert native.project(far).flatten(2)[0, :, 0].tolist() == pytest.approx([1.1, 1.1])
    assert share.distance(share.project(far)).item() == pytest.approx(0.1)
    assert native.distance(native.project(far)).item() == pytest.approx(0.1)


def test_raw_leaves_an_untouched_voxel_legal_and_window_clips_it():
    volume = torch.tensor([[[[-5.0, 5.0, 30.0]]], [[[1.0, 2.0, 3.0]]]])
    raw = CT.ball(volume)
    assert torch.equal(raw.project(volume), volume)
    assert raw.low.flatten().tolist() == [-5.0, 0.0]
    assert raw.high.flatten().tolist() == [30.0, 10.0]
    assert raw.project(volume + 9)[0].flatten().tolist() == [-4.0, 6.0, 30.0]
    window = ThreatModel(eps=0.1, reference="window", bounds=((0.0, 10.0),)).ball(volume)
    assert window.reference[0].flatten().tolist() == [0.0, 5.0, 10.0]
    assert window.project(volume - 99)[0].flatten().tolist() == [0.0, 4.0, 9.0]


def test_limits_keep_a_file_type_in_range():
    volume = torch.tensor([[[[32767.0, -32768.0, 0.0]]]])
    threat = ThreatModel(eps=100.0, unit="native", bounds=((-1e6, 1e6),), limits=(-32768.0, 32767.0))
    ball = threat.ball(volume)
    assert ball.project(volume + 1e9).flatten().tolist() == [32767.0, -32668.0, 100.0]
    assert ball.project(volume - 1e9).flatten().tolist() == [32667.0, -32768.0, -100.0]


def test_linf_projection_is_the_nearest_legal_point_and_idempotent():
    volume, point = torch.rand(2, 2, 5, 5).double() * 10, torch.randn(2, 2, 5, 5).double() * 10
    ball = ThreatModel(eps=0.1, bounds=TWO).ball(volume)
    found = ball.project(point)
    width = torch.tensor([1.0, 0.2]).double().view(1, 2, 1, 1)
    least = torch.maximum(volume - width, ball.low)
    most = torch.minimum(volume + width, ball.high)
    torch.testing.assert_close(found, point.clamp(least, most))
    torch.testing.assert_close(ball.project(found), found, rtol=0, atol=1e-15)
    assert ball.holds(found).all()
    assert not ball.holds(point).any()


def test_l2_is_measured_over_all_voxels_in_units_of_each_channel():
    volume = torch.full((2, 2, 4, 4), 1.0).double()
    threat = ThreatModel(eps=0.3, norm="l2", bounds=TWO)
    ball = threat.ball(volume)
    delta = torch.randn_like(volume)
    found = ball.project(volume + delta) - volume
    units = torch.tensor([10.0, 2.0]).double().view(1, 2, 1, 1)
    size = (delta / units).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert bool((size > 0.3).all())
    # Then into the box 0..10 and 0..2.
    expected = (volume + delta * 0.3 / size).clamp(torch.zeros_like(units), units) - volume
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ball.distance(volume + found), (found / units).flatten(1).norm(dim=1))
    near = volume + 1e-3 * delta
    torch.testing.assert_close(ball.project(near), near)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_is_the_steepest_direction_of_length_eps(norm):
    volume = torch.full((2, 2, 4, 4), 1.0).double()
    ball = ThreatModel(eps=0.1, norm=norm, bounds=TWO).ball(volume)
    gradient = torch.randn_like(volume)
    step = ball.step(gradient)
    torch.testing.assert_close(ball.distance(volume + step), torch.full((2,), 0.1).double())
    # No direction of that length gains more than the dual norm of the gradient.
    dual = (gradient * ball.unit).flatten(1).norm(p=1 if norm == "linf" else 2, dim=1)
    torch.testing.assert_close((gradient * step).flatten(1).sum(1), 0.1 * dual)
    assert not ball.step(torch.zeros_like(volume)).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_points_and_sign_noise_are_legal_and_repeatable(norm):
    volume = torch.rand(2, 1, 6, 6, 6) * 8 + 1
    ball = ThreatModel(eps=0.05, norm=norm, bounds=((0.0, 10.0),)).ball(volume)
    first, again = (ball.random(torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, ball.random(torch.Generator().manual_seed(4)))
    assert ball.holds(first).all()
    assert bool((ball.distance(first) > 0).all())
    noise = ball.sign_noise(torch.Generator().manual_seed(3))
    assert ball.holds(noise).all()
    torch.testing.assert_close(ball.distance(noise), torch.full((2,), 0.05), rtol=1e-4, atol=1e-5)


def test_holds_judges_each_case_within_the_tolerance():
    volume = torch.full((3, 1, 2, 2), 5.0)
    ball = CT.ball(volume)
    shift = torch.tensor([1.0, 1.0 + 5e-6, 1.001]).view(3, 1, 1, 1)
    assert ball.holds(volume + shift).tolist() == [True, True, False]
    out = volume.clone()
    out[1, 0, 0, 0] = 10.5
    assert CT.with_eps(1.0).ball(volume).holds(out).tolist() == [True, False, True]


def test_scaled_and_rows_and_a_case_of_its_own_window():
    volume = torch.rand(3, 1, 2, 2)
    ball = CT.ball(volume)
    assert ball.scaled(2.0).radius.item() == pytest.approx(0.2)
    assert torch.equal(ball.rows(torch.tensor([2])).reference, volume[2:])
    assert ball.rows(torch.tensor([True, False, True])).low.shape[0] == 2
    assert CT.within(((0.0, 20.0),)).ball(volume).eps.item() == pytest.approx(2.0)
    assert CT.with_eps(0.0).ball(volume).project(volume + 1).equal(volume)
