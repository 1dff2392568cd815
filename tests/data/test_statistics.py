"""What normalises a scan, followed through a tensor: the same figures, differentiable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.data.volumes import CODES, make_affine, make_plan, make_volumes
from voxward.core.case import Volume
from voxward.core.plan import ChannelPlan
from voxward.data import statistics as module
from voxward.data.prepare import frame_of, measured, measured_live, prepare, prepare_frozen

KINDS = ["ct", "none", "zscore", "clip", "mr", "minmax"]


def plan_of(kind: str):
    return make_plan((0.9, 1.1, 2.0), channels=(ChannelPlan("a", kind, 50.0, 150.0, 90.0, 30.0),))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("code", "degrees"), CODES[1:4])
@pytest.mark.parametrize("sample", [2_000_000, 1_000])
def test_live_figures_are_those_of_the_changed_volume(kind, code, degrees, sample, monkeypatch):
    """Of the clean volume there is the crop box alone; percentiles of a thinned sample, too."""
    monkeypatch.setattr(module, "_SAMPLE", sample)
    image, _ = make_volumes(make_affine(code, degrees=degrees))
    plan, frame = plan_of(kind), frame_of(image, plan_of(kind))
    moved = np.where(image.array != 0, 1.3 * image.array + np.random.default_rng(1).uniform(0, 9, image.array.shape), 0)
    changed = Volume(moved.astype(np.float32), image.affine)
    live = measured_live(torch.from_numpy(changed.array), frame, plan)
    found, expected = [float(value) for value in live[0]], measured(changed, plan)[0]
    assert found == pytest.approx(expected, rel=1e-5)
    assert found != pytest.approx(measured(image, plan)[0], rel=1e-2) or kind == "ct"
    prepared = prepare_frozen(torch.from_numpy(changed.array)[None], frame, plan, live)
    torch.testing.assert_close(prepared[0], prepare(changed, None, plan).image, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 70.0])
def test_constant_channels(kind, value):
    image = Volume(np.full((1, 6, 5, 4), value, np.float32), np.eye(4))
    plan = plan_of(kind)
    live = measured_live(torch.from_numpy(image.array), frame_of(image, plan), plan)
    assert [float(number) for number in live[0]] == pytest.approx(measured(image, plan)[0], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_preparation_with_its_own_figures_is_differentiable(kind):
    """The difference quotient along every voxel; intensities apart from each other and from the clipping."""
    random = np.random.default_rng(0)
    array = np.zeros((1, 5, 4, 4))
    array[0, 1:, :-1, 1:] = random.permutation(np.linspace(20, 190, 36)).reshape(4, 3, 3)
    plan = plan_of(kind)
    frame = frame_of(Volume(array, make_affine("PIL")), plan)

    def prepared(x: torch.Tensor) -> torch.Tensor:
        return prepare_frozen(x[None], frame, plan, measured_live(x, frame, plan))

    volume = torch.from_numpy(array).requires_grad_()
    inside = torch.from_numpy(array) != 0  # at 0 the figures jump
    kept = torch.from_numpy(array[array != 0]).requires_grad_()
    torch.autograd.gradcheck(
        lambda values: prepared(torch.zeros_like(volume).masked_scatter(inside, values)), (kept,), eps=1e-6, atol=1e-6
    )
    (own,) = torch.autograd.grad((prepared(volume) ** 2).sum(), volume)
    (held,) = torch.autograd.grad((prepare_frozen(volume[None], frame, plan) ** 2).sum(), volume)
    if kind != "none":  # whose figures only cut off what the splines overshoot
        assert torch.allclose(own, held) == (kind == "ct")
