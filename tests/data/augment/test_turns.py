"""Quarter turns against numpy's, sample by sample."""

import numpy as np
import pytest
import torch

from voxward.core.recipe import load_recipe
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation
from voxward.data.augment.turns import apply_turns, draw_turns

RECIPE = load_recipe("resdsn-c2f-coarse").augmentation
ACTIVE = (True, True, True)


def test_every_turn_is_as_likely_and_only_the_recipes_axes_turn():
    drawn = draw_turns(RECIPE, 4000, torch.Generator().manual_seed(0))
    for axis in range(3):
        shares = drawn[:, axis].bincount(minlength=4) / len(drawn)
        assert torch.allclose(shares, torch.full((4,), 0.25), atol=0.03)
    some = load_recipe("resdsn-c2f-coarse", ["augmentation.quarter_turns=[2]"]).augmentation
    drawn = draw_turns(some, 50, torch.Generator().manual_seed(0))
    assert not drawn[:, :2].any()
    assert drawn[:, 2].any()


def test_a_recipe_without_turns_draws_nothing():
    generator, untouched = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert not draw_turns(load_recipe("rog").augmentation, 5, generator).any()
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=untouched))


def test_turns_are_numpys():
    x = torch.arange(4 * 2 * 27).view(4, 2, 3, 3, 3)
    turns = torch.tensor([[1, 0, 0], [0, 2, 3], [0, 0, 0], [3, 1, 2]])
    expected = []
    for sample, (a, b, c) in zip(x.numpy(), turns.tolist(), strict=True):
        sample = np.rot90(sample, a, (2, 3))
        sample = np.rot90(sample, b, (3, 1))
        expected.append(np.rot90(sample, c, (1, 2)))
    np.testing.assert_array_equal(apply_turns(x, turns), np.stack(expected))


@pytest.mark.parametrize("axis", range(3))
def test_a_plane_that_is_not_square_makes_half_turns_at_most(axis):
    x = torch.arange(4 * 3 * 4 * 5).view(4, 3, 4, 5)
    turns = torch.zeros(4, 3, dtype=torch.int64)
    turns[:, axis] = torch.arange(4)
    turned = apply_turns(x, turns)
    plane = [n - 3 for n in range(3) if n != axis]
    for n, half in enumerate((False, True, True, False)):
        assert torch.equal(turned[n], x[n].flip(plane) if half else x[n])


def test_image_and_label_turn_together():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 5, (6, 8, 8, 8), generator=generator)
    images = labels[:, None].float()
    draw = draw_augmentation(RECIPE, 6, 1, ACTIVE, generator)
    patches, truth = apply_augmentation(images, labels, draw, (8, 8, 8), (1.0, 1.0, 3.0), "reflect")
    assert torch.equal(patches[:, 0].long(), truth)
    assert not torch.equal(truth, labels)
    assert torch.equal(truth.flatten(1).sort(1).values, labels.flatten(1).sort(1).values)
