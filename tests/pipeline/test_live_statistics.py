"""A pipeline that takes a scan's statistics anew, as the deployed one does: its logits, its gradient, its refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.pipeline.plain_pipeline import OTHER, SAME, Toy, a_predictor, a_target, a_volume, moved, soft_dice
from tests.systems.build import cascade, frozen
from voxward.core.case import Volume
from voxward.pipeline.model import PipelineModel
from voxward.systems.crop import crop

CASE = a_volume()
BOX = (slice(1, 11), slice(3, 12), slice(0, 6))


def of(kind, seed=0, spacing=SAME):
    """A predictor whose first channel is normalised so; the second as an MR."""
    one = a_predictor(Toy(seed).double(), spacing, overlap=0.25)
    plan = one.model.plan
    channels = (replace(plan.channels[0], normalization=kind), plan.channels[1])
    return replace(one, model=replace(one.model, plan=replace(plan, channels=channels)))


def changed(seed=1):
    """Brighter on one side; zeros stay zeros."""
    side = torch.linspace(0, 12, CASE.shape[0], dtype=torch.float64).view(-1, 1, 1)
    volume = moved(CASE) + side
    return torch.where(torch.from_numpy(CASE.array)[None] == 0, 0.0, volume)


def model_of(stage, kind, statistics):
    if stage is None:
        return PipelineModel.freeze([of(kind), of("mr", 1, OTHER)], CASE, statistics=statistics)
    both = cascade(of(kind), of("clip", 1, OTHER), margin=1.0)
    return frozen(both, CASE, BOX, stage, statistics=statistics)


def as_deployed(stage, kind, x):
    """The frozen pipeline of the changed scan, which has the same crop box."""
    scan = Volume(x[0].numpy(), CASE.affine)
    if stage is None:
        return PipelineModel.freeze([of(kind), of("mr", 1, OTHER)], scan).logits(x)
    return frozen(cascade(of(kind), of("clip", 1, OTHER), margin=1.0), scan, BOX, stage).logits(x)


@pytest.mark.parametrize("stage", [None, "both", "coarse", "fine"])
@pytest.mark.parametrize("kind", ["zscore", "clip", "minmax"])
def test_logits_are_those_of_the_deployed_pipeline(stage, kind):
    x = changed()
    expected = as_deployed(stage, kind, x)
    live, frozen = (model_of(stage, kind, statistics) for statistics in ("live", "frozen"))
    torch.testing.assert_close(live.logits(x), expected, rtol=0, atol=1e-9)
    assert (frozen.logits(x) - expected).abs().max() > 1e-2
    clean = torch.from_numpy(CASE.array)[None]
    torch.testing.assert_close(live.logits(clean), frozen.logits(clean), rtol=0, atol=1e-9)


@pytest.mark.parametrize("stage", [None, "both", "fine"])
@pytest.mark.parametrize("kind", ["zscore", "clip"])
def test_the_gradient_is_the_difference_quotient(stage, kind):
    """Along directions that move the statistics."""
    model, x, target = model_of(stage, kind, "live"), changed(), a_target("softmax", 1)
    gradient = model.value_and_grad(x, target, soft_dice)[2]
    frozen = model_of(stage, kind, "frozen").value_and_grad(x, target, soft_dice)[2]
    for seed in range(3):
        direction = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype) * (x != 0)
        far, near = (soft_dice(model.logits(x + step * direction), target) for step in (1e-6, -1e-6))
        quotient = float((far - near) / 2e-6)
        assert float((gradient * direction).sum()) == pytest.approx(quotient, rel=1e-4, abs=1e-8)
        assert float((frozen * direction).sum()) != pytest.approx(quotient, rel=1e-2)


@pytest.mark.parametrize("stage", [None, "both"])
def test_a_local_change_moves_every_window(stage):
    model, x = model_of(stage, "clip", "live"), changed()
    before, place = model.sweep(x), (slice(2, 5), slice(3, 6), slice(2, 6))
    other = x.clone()
    other[(..., *place)] += 30.0
    torch.testing.assert_close(model.logits_after(before, other, place).logits, model.logits(other), rtol=0, atol=1e-6)


def test_cases_of_a_batch_have_their_own_statistics():
    model, x = model_of(None, "zscore", "live"), changed()
    two = torch.cat([x, 1.5 * x])
    torch.testing.assert_close(model.logits(two), torch.cat([model.logits(one[None]) for one in two]))


def test_refusals():
    part = crop(CASE, BOX)
    with pytest.raises(ValueError, match="unless it is known where inside its whole it lies"):
        PipelineModel.freeze([of("mr")], part, whole=CASE, statistics="live")
    with pytest.raises(ValueError, match="inside needs a whole"):
        PipelineModel.freeze([of("mr")], part, inside=BOX)
    larger = torch.zeros(1, 2, *(length + 1 for length in CASE.shape), dtype=torch.float64)
    for statistics in ("frozen", "live"):
        with pytest.raises(ValueError, match="whole's shape"):
            model_of("fine", "clip", statistics).logits(larger)
