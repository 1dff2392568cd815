"""Preparation with its crop box and figures held: the same numbers, as a differentiable function of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.data.volumes import CODES, SPACING, make_affine, make_plan, make_volumes
from tests.rounding import rounding
from voxward.core.case import Volume
from voxward.core.plan import ChannelPlan
from voxward.data.crop import crop_frozen, paste, paste_frozen
from voxward.data.orient import orient
from voxward.data.prepare import prepare, prepare_frozen


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.7, 2.4), SPACING])
@pytest.mark.parametrize(("code", "degrees"), CODES)
@pytest.mark.parametrize("kind", ["mr", "ct", "clip", "none"])
def test_frozen_preparation_equals_preparation(code: str, degrees: float, spacing, kind: str) -> None:
    image, _ = make_volumes(make_affine(code, degrees=degrees))
    two = Volume(np.concatenate([image.array, 3 * image.array[:, ::-1]]), image.affine)
    plan = make_plan(spacing, channels=(ChannelPlan("a", kind, 50.0, 150.0, 90.0, 30.0), ChannelPlan("b", "mr")))
    prepared = prepare(two, None, plan)
    assert prepared.frame.box_shape != orient(two.array[0], prepared.frame.axes, prepared.frame.flips).shape
    frozen = prepare_frozen(torch.from_numpy(two.array)[None], prepared.frame, plan)
    assert frozen.dtype == torch.float32
    for channel, source, std, expected in zip(frozen[0], two.array, prepared.frame.std, prepared.image, strict=True):
        torch.testing.assert_close(channel, expected, rtol=0, atol=rounding(source / std))
    double = prepare_frozen(torch.from_numpy(two.array)[None].double(), prepared.frame, plan)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double[0], prepared.image.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_frozen_preparation_is_differentiable() -> None:
    """Away from the clipping the derivative along any direction is the difference quotient, zero outside the box."""
    array = np.zeros((1, 7, 6, 5))
    array[0, 1:, :-1, 1:] = np.random.default_rng(0).uniform(10, 20, (6, 5, 4))
    plan = make_plan((0.9, 1.1, 2.0))
    frame = prepare(Volume(array, make_affine("PIL")), None, plan).frame
    volume = torch.from_numpy(np.stack([array, array[:, ::-1].copy()])).requires_grad_()
    torch.autograd.gradcheck(lambda x: prepare_frozen(x, frame, plan), (volume,), eps=1e-6, atol=1e-7)
    (gradient,) = torch.autograd.grad(prepare_frozen(volume, frame, plan).sum(), volume)
    assert not gradient[:, 0, 0].any()
    with pytest.raises(ValueError, match=r"volume must be \(b, c, i, j, k\) with \(1, 7, 6, 5\)"):
        prepare_frozen(volume.detach()[..., 1:], frame, plan)


@pytest.mark.parametrize(("code", "degrees"), CODES)
def test_tensors_are_cropped_and_pasted_like_arrays(code: str, degrees: float) -> None:
    image, _ = make_volumes(make_affine(code, degrees=degrees))
    frame = prepare(image, None, make_plan()).frame
    box = torch.rand(2, *frame.box_shape)
    pasted = paste_frozen(box, frame, torch.tensor([5.0, 7.0]))
    outside = paste(np.ones(frame.box_shape, np.uint8), frame) == 0
    for channel, value, whole in zip(box, (5.0, 7.0), pasted, strict=True):
        np.testing.assert_array_equal(whole.numpy(), np.where(outside, value, paste(channel.numpy(), frame)))
    assert torch.equal(crop_frozen(pasted, frame), box)
