"""Mirroring, and the mean of several members' logits."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.core.test_plan import PLAN
from voxward.core.case import Volume
from voxward.core.plan import ChannelPlan
from voxward.core.recipe import Inference, load_recipe
from voxward.pipeline.mean import mean_logits
from voxward.pipeline.predictor import Predictor
from voxward.pipeline.tta import averaged, flips, mirror_views
from voxward.runs.folder import TrainedModel
from voxward.runs.postprocess import PostProcess


def test_the_mean_is_over_all_flips_flipped_back():
    forward = nn.Conv3d(2, 3, 3, padding=1).double()
    images = torch.rand(2, 2, 5, 4, 3, dtype=torch.float64)
    for axes in [(0,), (1, 2), (2, 0), (0, 1, 2)]:
        expected = torch.zeros(2, 3, 5, 4, 3, dtype=torch.float64)
        choices = [(False, True) if axis in axes else (False,) for axis in range(3)]
        for choice in itertools.product(*choices):
            index = [torch.arange(n).flip(0) if f else torch.arange(n) for n, f in zip((5, 4, 3), choice, strict=True)]
            d, h, w = torch.meshgrid(*index, indexing="ij")
            expected += forward(images[:, :, d, h, w])[:, :, d, h, w] / 2 ** len(axes)
        torch.testing.assert_close(averaged(forward, mirror_views(axes))(images), expected, rtol=1e-12, atol=1e-12)


def test_a_mirrored_model_commutes_with_a_flip_and_no_axes_is_the_model_itself():
    forward = nn.Conv3d(1, 2, 3, padding=1).double()
    images = torch.rand(1, 1, 5, 4, 3, dtype=torch.float64)
    mean = averaged(forward, mirror_views((1,)))
    torch.testing.assert_close(mean(images.flip(3)).flip(3), mean(images), rtol=1e-12, atol=1e-12)
    assert averaged(forward, mirror_views(())) is forward


@pytest.mark.parametrize("axes", [(3,), (-1,), (0, 0)])
def test_wrong_axes_are_named(axes):
    with pytest.raises(ValueError, match="mirror_axes may only hold 0, 1, 2"):
        flips(axes)
    assert Inference(mirror_axes=axes).problems() == [f"mirror_axes may only hold 0, 1, 2, each once, got {axes}"]


class Shifted(nn.Module):
    """Foreground one voxel to the right of where it is bright: what mirroring shows."""

    def forward(self, x):
        return torch.cat([torch.full_like(x, 0.6), x.roll(1, 2)], 1)


def test_the_predictor_mirrors_as_the_recipe_says_unless_told_otherwise():
    plan = replace(PLAN, spline_order=(1, 1, 1), channels=(ChannelPlan("MRI", "none"),), crop_nonzero=False)
    volume = Volume(np.zeros((1, 16, 16, 8), np.float32), np.diag([1.0, 1.0, 2.0, 1.0]))
    volume.array[0, 6:8] = 1
    plain, recipe = (load_recipe("rog", changes).inference for changes in ((), ["inference.mirror_axes=[0]"]))
    found = {}
    for name, own, axes in (
        ("plain", plain, None),
        ("recipe", recipe, None),
        ("told", plain, (0,)),
        ("off", recipe, ()),
    ):
        model = TrainedModel(plan, own, Shifted(), PostProcess())
        found[name] = Predictor(model, torch.device("cpu"), "fp32", mirror_axes=axes).segment(volume)[:, 0, 0]
    assert np.flatnonzero(found["plain"]).tolist() == [7, 8]
    assert np.flatnonzero(found["recipe"]).tolist() == []  # 0.5 at 5, 6, 7, 8: below 0.6
    assert np.array_equal(found["told"], found["recipe"])
    assert np.array_equal(found["off"], found["plain"])


@pytest.mark.parametrize("head", ["softmax", "regions"])
def test_the_mean_of_probabilities_comes_back_as_logits(head):
    members = [torch.randn(2, 3, 4, dtype=torch.float64) * 3 for _ in range(3)]
    activation = (lambda z: z.softmax(1)) if head == "softmax" else torch.sigmoid
    expected = sum(activation(z) for z in members) / 3
    found = mean_logits(members, head, "probabilities")
    torch.testing.assert_close(activation(found), expected, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(activation(mean_logits(members, head, "logits")), expected, atol=1e-2)
    torch.testing.assert_close(mean_logits(members, head, "logits"), sum(members) / 3, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("head", ["softmax", "regions"])
@pytest.mark.parametrize("size", [0.0, 30.0, 1000.0])
def test_certain_members_give_finite_logits_and_gradients(head, size):
    z = torch.tensor([[size, -size, 0.0]]).requires_grad_()
    found = mean_logits([z, z * 1.5], head, "probabilities")
    (gradient,) = torch.autograd.grad(found[:, 1].sum(), z)
    assert torch.isfinite(found).all()
    assert torch.isfinite(gradient).all()
