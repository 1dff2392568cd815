"""Test-time augmentation where classes differ in left and right, against loops over copies that are written out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.pipeline.plain_pipeline import OTHER, Toy, a_predictor, a_target, a_volume, ce, close, moved
from voxward.core.errors import UserError
from voxward.pipeline.model import PipelineModel
from voxward.pipeline.symmetries import symmetries
from voxward.pipeline.tta import averaged, mirror_views, symmetry_views

SIDED = {"sides": ("a", "b")}
PAIRED = {"sides": ("a", "b"), "mirror_pairs": (("a", "b"),)}
# The classes of a_predictor are background, a and b.
ORDER = [0, 2, 1]


def with_sides(predictor, **inference):
    model = replace(predictor.model, inference=replace(predictor.model.inference, **inference))
    return replace(predictor, model=model)


def written_out(forward, images, axes):
    """The mean over all flips, with the last two of three channels exchanged where axis 0 is flipped."""
    every = [subset for n in range(len(axes) + 1) for subset in itertools.combinations(axes, n)]
    total = 0
    for subset in every:
        dims = [axis + 2 for axis in subset]
        logits = forward(images.flip(dims)).flip(dims)
        total = total + (torch.stack([logits[:, n] for n in ORDER], 1) if 0 in subset else logits)
    return total / len(every)


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_logits_and_their_gradient_are_those_of_the_loop(axes):
    forward = nn.Conv3d(2, 3, 3, padding=1).double()
    images = torch.rand(2, 2, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, 5, 4, 6, dtype=torch.float64)
    found, expected = averaged(forward, mirror_views(axes, ORDER))(images), written_out(forward, images, axes)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((z * weights).sum(), images)[0] for z in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_a_mirrored_patient_gets_the_mirrored_mask_with_the_names_exchanged():
    """The promise itself: f(mirrored) is mirrored f with left and right exchanged."""
    forward = nn.Conv3d(1, 3, 3, padding=1).double()
    images = torch.rand(1, 1, 4, 4, 4, dtype=torch.float64)
    for views in (mirror_views((0, 1), ORDER), symmetry_views(True, ORDER)):
        mean = averaged(forward, views)
        torch.testing.assert_close(mean(images.flip(2)), mean(images).flip(2)[:, ORDER], rtol=1e-12, atol=1e-12)
        assert not torch.allclose(mean(images), mean(images)[:, ORDER], atol=1e-3)


@pytest.mark.parametrize("normal", [0, 1, 2])
def test_the_direction_of_a_symmetry_is_where_the_first_axis_goes(normal):
    ramp = torch.arange(3.0)[:, None, None].expand(3, 3, 3)
    for symmetry in symmetries(normal):
        found = symmetry.apply(ramp)
        expected = 1 if torch.equal(found, ramp) else -1 if torch.equal(found, ramp.flip(0)) else 0
        assert symmetry.direction == expected


def test_symmetries_that_exchange_left_and_right_are_left_out_or_exchange_the_classes():
    left_of = nn.Identity()
    image = torch.arange(3.0)[None, None, :, None, None].expand(1, 3, 3, 3, 3).clone()
    assert [len(symmetry_views(*how)) for how in ((False,), (True,), (True, ORDER))] == [16, 4, 8]
    for view in symmetry_views(True):
        seen = []
        view(lambda x, seen=seen: seen.append(x) or left_of(x))(image)
        assert torch.equal(seen[0], image)


@pytest.mark.parametrize("axes", [(0,), (0, 1, 2)])
def test_the_gradient_through_the_pipeline_is_that_of_finite_differences(axes):
    """Through resampling, windows, flips and exchanged channels."""
    predictor = with_sides(a_predictor(Toy(0).double(), OTHER, axes=axes), **PAIRED)
    case = a_volume()
    model = PipelineModel.freeze([predictor], case)
    volume, target = moved(case), a_target()
    logits, _, gradient = model.value_and_grad(volume, target, ce)
    direction = torch.randn(volume.shape, dtype=volume.dtype, generator=torch.Generator().manual_seed(1))
    step = 1e-5
    ahead, behind = (ce(model.logits(volume + sign * step * direction), target) for sign in (1, -1))
    torch.testing.assert_close((gradient * direction).sum(), (ahead - behind).sum() / (2 * step), rtol=1e-5, atol=1e-8)
    plain = PipelineModel.freeze([with_sides(predictor, sides=(), mirror_pairs=())], case)
    assert not torch.allclose(plain.logits(volume), logits)
    close(model.logits(volume), logits)


def test_the_predictor_keeps_left_and_right_apart():
    predictor = a_predictor(Toy(0).double())
    free, kept, paired = (replace(with_sides(predictor, **how), tta="mirrors") for how in ({}, SIDED, PAIRED))
    assert (free.mirrors, kept.mirrors, paired.mirrors) == ((0, 1, 2), (1, 2), (0, 1, 2))
    counts = [len(replace(each, tta="symmetries").views) for each in (free, kept, paired)]
    assert counts == [16, 4, 8]
    with pytest.raises(UserError, match=r"mirror_axes must not hold 0.*\(a, b\)"):
        replace(kept, mirror_axes=(0,))
    assert len(replace(paired, mirror_axes=(0,)).views) == 2
