"""The deployed pipeline: its mask is the predictor's, it leaves networks as found, and refuses what cannot work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.pipeline.plain_pipeline import OTHER, SAME, SHAPE, Toy, a_predictor, a_target, a_volume, ce, moved
from voxward.core.case import Volume
from voxward.core.labels import LabelSet
from voxward.pipeline.model import PipelineModel
from voxward.runs.postprocess import PostProcess


@pytest.mark.parametrize("gradient", ["exact", "window_mean"])
def test_the_networks_are_left_as_they_were(gradient):
    network = Toy().double()
    predictor = a_predictor(network)
    network.train()
    network.body[1].eval()
    network.body[0].bias.requires_grad_(False)
    network.body[0].weight.grad = torch.ones_like(network.body[0].weight)
    modes = [module.training for module in network.modules()]
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    before = [parameter.clone() for parameter in network.parameters()]
    case = a_volume()
    model, volume = PipelineModel.freeze([predictor], case, gradient=gradient), moved(case)
    kept = volume.clone()
    with torch.no_grad():
        model.value_and_grad(volume, a_target(), ce)
    model.logits_after(model.sweep(volume), volume + 1, (slice(None),) * 3)
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))
    grads = [parameter.grad for parameter in network.parameters()]
    assert torch.equal(grads[0], torch.ones_like(grads[0]))
    assert all(grad is None for grad in grads[1:])
    assert torch.equal(volume, kept)
    assert not volume.requires_grad


@pytest.mark.parametrize("axes", [(), (0, 2)])
@pytest.mark.parametrize("spacing", [SAME, OTHER])
@pytest.mark.parametrize("kinds", [(), ("organ", "lesion"), ("none", "none")])
def test_the_mask_is_the_predictors(axes, spacing, kinds):
    case = a_volume(np.float32)
    process = PostProcess(kinds, (0.0, 60.0) if kinds else ())
    predictor = a_predictor(Toy(), spacing, axes=axes, process=process)
    model = PipelineModel.freeze([predictor], case)
    mask = model.segment(model.logits(torch.from_numpy(case.array)[None]))
    assert mask.dtype == torch.int64
    assert len(mask.unique()) == 3
    np.testing.assert_array_equal(mask[0].numpy(), predictor.segment(case))


def test_region_masks_have_no_post_processing():
    predictor = a_predictor(Toy(), process=PostProcess(("organ", "organ"), (0.0, 0.0)))
    model = PipelineModel.freeze([predictor], a_volume(np.float32), "regions")
    logits = torch.randn(2, 3, *SHAPE)
    assert torch.equal(model.segment(logits), (logits > 0).long())


def test_bounds_are_the_clip_window_and_always_legal():
    case = a_volume()
    case.array[1] = 0
    model = PipelineModel.freeze([a_predictor(Toy().double())], case)
    assert model.bounds[0] == (25.0, 85.0)
    low, high = model.bounds[1]
    assert low == 0.0 < high < 1e-5
    assert (model.channels, model.head) == (2, "softmax")


def test_what_cannot_work_is_refused():
    case, predictor = a_volume(), a_predictor(Toy())
    with pytest.raises(ValueError, match="at least one"):
        PipelineModel.freeze([], case)
    with pytest.raises(ValueError, match="'fp16' loses gradients"):
        PipelineModel.freeze([replace(predictor, precision="fp16")], case)
    with pytest.raises(ValueError, match="mirror_axes"):
        PipelineModel.freeze([replace(predictor, mirror_axes=(3,))], case)
    with pytest.raises(ValueError, match="graphs must be at least 0"):
        replace(predictor, graphs=-1)
    with pytest.raises(ValueError, match="takes 2 channels"):
        PipelineModel.freeze([predictor], Volume(case.array[:1], case.affine))
    other = replace(predictor.model, plan=replace(predictor.model.plan, labels=LabelSet(("background", "c"), (0, 1))))
    with pytest.raises(ValueError, match="agree on their labels"):
        PipelineModel.freeze([predictor, replace(predictor, model=other)], case)
    with pytest.raises(ValueError, match=r"volume must be \(b, c, i, j, k\)"):
        PipelineModel.freeze([predictor], case).logits(torch.zeros(1, 2, 5, 5, 5))
