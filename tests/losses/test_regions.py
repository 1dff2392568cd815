"""Region losses against the formulas, voxel sums written out."""

import pytest
import torch

from voxward.core.labels import LabelSet
from voxward.core.recipe import Choice
from voxward.losses.registry import create_loss

LABELS = LabelSet(("background", "NCR", "ED", "ET"), (0, 1, 2, 4)).with_regions(
    {"WT": (1, 2, 4), "ET": (4,), "TC": (1, 4)}
)


def _batch():
    torch.manual_seed(0)
    return torch.randn(2, 3, 4, 5, 6), torch.randint(0, 4, (2, 4, 5, 6))


def _masks(index):
    """ET = 3, TC = 1 and 3, WT = 1, 2 and 3: class indices."""
    return torch.stack([index == 3, (index == 1) | (index == 3), index > 0], 1).float()


@pytest.mark.parametrize("squared", [True, False])
def test_batchwise_dice_has_the_papers_denominators(squared):
    logits, index = _batch()
    p, t = logits.sigmoid(), _masks(index)
    value = create_loss(Choice("region-dice", {"squared": squared}), LABELS)(logits, index)
    expected = 0.0
    for r in range(3):
        a, b = p[:, r], t[:, r]
        below = (a * a).sum() + (b * b).sum() if squared else a.sum() + b.sum()
        expected += 1 - (2 * (a * b).sum() + 1) / (below + 1)
    torch.testing.assert_close(value, expected / 3)


def test_a_perfect_mask_costs_nothing():
    """Equation 2 of the paper lacks the factor 2: its loss would be about a half here."""
    _, index = _batch()
    perfect = 40 * (2 * _masks(index) - 1)
    assert create_loss(Choice("region-dice"), LABELS)(perfect, index) < 1e-3


def test_dice_ce_is_dice_plus_binary_cross_entropy():
    logits, index = _batch()
    p, t = logits.sigmoid(), _masks(index)
    ce = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
    dice = 1 - (2 * (p * t).sum((2, 3, 4)) / (p.sum((2, 3, 4)) + t.sum((2, 3, 4)))).mean()
    torch.testing.assert_close(create_loss(Choice("dice-ce"), LABELS)(logits, index), dice + ce, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(create_loss(Choice("ce"), LABELS)(logits, index), ce)


def test_a_loss_that_does_not_fit_the_labels_is_refused():
    with pytest.raises(ValueError, match="needs regions"):
        create_loss(Choice("region-dice"), LABELS.classes)
    with pytest.raises(ValueError, match="smooth"):
        create_loss(Choice("region-dice", {"smooth": -1.0}), LABELS)
