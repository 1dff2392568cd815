"""A batch that is mirrored left to right, with the classes of the two sides exchanged."""

import numpy as np
import torch

from voxward.core.recipe import Augmentation
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation

MIRRORED = Augmentation(rotation_probability=0.0, scale_probability=0.0, gamma_probability=0.0)


def test_labels_of_mirrored_samples_are_exchanged_and_no_others():
    images, labels = torch.randn(16, 1, 6, 5, 4), torch.randint(5, (16, 6, 5, 4)).to(torch.uint8)
    draw = draw_augmentation(MIRRORED, 16, 1, (True,) * 3, torch.Generator().manual_seed(0))
    kept = images.clone(), labels.clone()
    moved, truth = apply_augmentation(images, labels, draw, (6, 5, 4), (1.0,) * 3, "edge", ((1, 4), (2, 3)))
    name = np.array([0, 4, 3, 2, 1])
    for n, flips in enumerate(draw.spatial.flips.tolist()):
        axes = [axis for axis in range(3) if flips[axis]]
        expected = np.flip(labels[n].numpy(), axes)
        assert np.array_equal(truth[n].numpy(), name[expected] if flips[0] else expected)
        assert np.array_equal(moved[n, 0].numpy(), np.flip(images[n, 0].numpy(), axes))
    assert {bool(flip) for flip in draw.spatial.flips[:, 0]} == {False, True}
    assert torch.equal(images, kept[0])
    assert torch.equal(labels, kept[1])


def test_rotated_samples_too():
    turned = Augmentation(rotation_probability=1.0, scale_probability=0.0, gamma_probability=0.0)
    labels = torch.randint(4, (8, 6, 6, 6))
    draw = draw_augmentation(turned, 8, 1, (True,) * 3, torch.Generator().manual_seed(3))
    plain, truth = (
        apply_augmentation(torch.zeros(8, 1, 6, 6, 6), labels, draw, (6, 6, 6), (1.0,) * 3, "edge", swaps)[1]
        for swaps in ((), ((1, 2),))
    )
    name = torch.tensor([0, 2, 1, 3])
    for n, flips in enumerate(draw.spatial.flips.tolist()):
        assert torch.equal(truth[n], name[plain[n]] if flips[0] else plain[n])
