"""A model under noise as attacks see it: the mean over draws, and no noise where none is allowed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from voxward.attacks.smoothed import Smoothed, smoothed
from voxward.core.model import PatchModel

SHAPE = (1, 1, 4, 4, 4)


class Squared(nn.Module):
    """Scores 0 and x^2, whose mean under noise N(0, s^2) is x^2 + s^2, and the mean of the gradient 2 x."""

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), x**2], 1)


def total(logits, target):
    return logits[:, 1].flatten(1).sum(1)


def test_values_and_gradients_are_means_over_noise():
    x, sigma = torch.linspace(-1, 1, 64).view(SHAPE), 0.5
    model = smoothed(PatchModel(Squared()), torch.full(SHAPE, sigma), seed=3, draws=400)
    logits, values, gradient = model.value_and_grad(x, torch.zeros(1, 4, 4, 4, dtype=torch.long), total)
    assert logits[:, 1] == pytest.approx((x**2 + sigma**2)[:, 0], abs=0.25)
    assert float(values) == pytest.approx(float((x**2 + sigma**2).sum()), rel=0.05)
    assert gradient == pytest.approx(2 * x, abs=0.25)


def test_every_answer_has_other_noise_and_held_voxels_have_none():
    deviation = torch.full(SHAPE, 0.5)
    deviation[..., 0] = 0
    x = torch.ones(SHAPE)
    model = Smoothed(PatchModel(Squared()), deviation, torch.Generator().manual_seed(0))
    first, second = model.logits(x)[:, 1], model.sweep(x).logits[:, 1]
    assert torch.equal(first[..., 0], torch.ones_like(first[..., 0]))
    assert torch.equal(second[..., 0], first[..., 0])
    assert not torch.isclose(first[..., 1:], second[..., 1:]).all()
    again = Smoothed(PatchModel(Squared()), deviation, torch.Generator().manual_seed(0))
    assert torch.equal(again.logits(x)[:, 1], first)


def test_a_local_change_is_a_new_draw_of_the_whole():
    model = Smoothed(PatchModel(Squared()), torch.full(SHAPE, 0.5), torch.Generator().manual_seed(0))
    before = model.sweep(torch.ones(SHAPE))
    after = model.logits_after(before, torch.ones(SHAPE), (slice(0, 1),) * 3)
    assert not torch.equal(after.logits, before.logits)
