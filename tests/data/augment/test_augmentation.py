import pytest
import torch

from voxward.core.recipe import Augmentation
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation

ACTIVE, SPACING, PATCH = (True, True, True), (1.0, 1.0, 2.0), (6, 5, 4)


def _batch(batch=5):
    return torch.randn(batch, 2, 9, 8, 6), torch.randint(3, (batch, 9, 8, 6))


def _draw(recipe, seed=0, batch=5, channels=2):
    return draw_augmentation(recipe, batch, channels, ACTIVE, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("padding", ["reflect", "edge", "zero"])
def test_same_draw_twice_is_the_same_batch_and_another_draw_is_not(padding):
    images, labels = _batch()
    first = apply_augmentation(images, labels, _draw(Augmentation()), PATCH, SPACING, padding)
    again = apply_augmentation(images, labels, _draw(Augmentation()), PATCH, SPACING, padding)
    other = apply_augmentation(images, labels, _draw(Augmentation(), seed=1), PATCH, SPACING, padding)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (5, 2, *PATCH)
    assert first[1].shape == (5, *PATCH)
    assert torch.isfinite(first[0]).all()


def test_gamma_comes_last_so_the_patch_keeps_its_own_range():
    images, labels = _batch()
    off = Augmentation(rotation_probability=0.0, scale_probability=0.0, mirror_axes=(), gamma_probability=1.0)
    patches, truth = apply_augmentation(images, labels, _draw(off), PATCH, SPACING, "edge")
    crop = images[:, :, 1:7, 1:6, 1:5]
    torch.testing.assert_close(patches.amin((2, 3, 4)), crop.amin((2, 3, 4)))
    torch.testing.assert_close(patches.amax((2, 3, 4)), crop.amax((2, 3, 4)))
    assert torch.equal(patches.flatten(2).argsort(), crop.flatten(2).argsort())
    assert not torch.equal(patches, crop)
    assert torch.equal(truth, labels[:, 1:7, 1:6, 1:5])


def test_image_and_label_move_together():
    labels = torch.zeros(4, 20, 20, 20, dtype=torch.int64)
    labels[:, 5:13, 8:16, 4:12] = 1
    images = labels[:, None].float()
    recipe = Augmentation(rotation_probability=1.0, scale_probability=1.0, gamma_probability=0.0)
    draw = _draw(recipe, batch=4, channels=1)
    patches, truth = apply_augmentation(images, labels, draw, (16, 16, 16), SPACING, "edge")
    certain = (patches[:, 0] < 0.05) | (patches[:, 0] > 0.95)
    assert torch.equal(truth[certain], (patches[:, 0][certain] > 0.5).long())
    assert certain.float().mean() > 0.8


def test_draw_for_another_batch_is_refused():
    images, labels = _batch()
    with pytest.raises(ValueError, match="draw is for"):
        apply_augmentation(images, labels, _draw(Augmentation(), batch=4), PATCH, SPACING, "edge")
    with pytest.raises(ValueError, match="at least 1"):
        _draw(Augmentation(), batch=0)
