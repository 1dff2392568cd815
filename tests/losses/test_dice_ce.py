import pytest
import torch
import torch.nn.functional as F

from voxward.losses.registry import LOSSES


def _reference(logits, labels):
    """By hand: cross-entropy plus 1 - soft Dice per sample, averaged over the foreground classes."""
    probability = logits.softmax(1)
    truth = F.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    axes = (2, 3, 4)
    both, total = (probability * truth).sum(axes), probability.sum(axes) + truth.sum(axes)
    dice = (2 * both + 1e-5) / (total + 1e-5)
    return F.cross_entropy(logits, labels.long()) + (1 - dice[:, 1:]).mean()


def test_equals_the_formula():
    logits = torch.randn(2, 3, 5, 6, 7)
    labels = torch.randint(0, 3, (2, 5, 6, 7))
    torch.testing.assert_close(LOSSES["dice-ce"]()(logits, labels), _reference(logits, labels))


def test_perfect_logits_cost_nothing_and_wrong_ones_a_lot():
    labels = torch.randint(0, 3, (1, 6, 6, 6), dtype=torch.uint8)
    perfect = 50.0 * F.one_hot(labels.long(), 3).movedim(-1, 1).float()
    loss = LOSSES["dice-ce"]()
    assert loss(perfect, labels) < 1e-4
    assert loss(-perfect, labels) > 5


def test_an_absent_class_pushes_nowhere():
    """A class absent from patch and prediction adds a constant 1 without a gradient (as in ROG)."""
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    logits = torch.zeros(1, 2, 4, 4, 4)
    logits[:, 0] = 30.0
    logits.requires_grad_()
    loss = LOSSES["dice-ce"](ce_weight=0.0)(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-5


def test_unknown_loss():
    with pytest.raises(ValueError, match="Known: ce, dice-ce"):
        LOSSES["dice"]
