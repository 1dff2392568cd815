"""The loss of a batch that two processes share is the loss of the whole batch, and so are its gradients."""

import pytest
import torch

from tests.rounding import rounding
from voxward.core.labels import IGNORED, LabelSet
from voxward.core.recipe import Choice
from voxward.losses.registry import create_loss
from voxward.losses.whole import whole_batch

CLASSES = LabelSet(names=("background", "a", "b"), values=(0, 1, 2))


class _Add(torch.autograd.Function):
    """What two processes do that add up: the sum of the values forwards, the sum of their gradients backwards."""

    @staticmethod
    def forward(ctx, own, other):
        return own + other

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient, None


def _in_two_processes(loss, logits, labels):
    """The mean over two processes of the loss and of its gradients, each process with half of the batch."""
    halves = list(zip(logits.detach().chunk(2), labels.chunk(2), strict=True))
    sums = []
    for half in halves:
        noted = []
        with whole_batch(lambda x, noted=noted: (noted.append(x.detach()), x)[1]):
            loss(*half)
        sums.append(noted)
    values, gradients = [], []
    for n, (z, y) in enumerate(halves):
        others, leaf = iter(sums[1 - n]), z.clone().requires_grad_()
        with whole_batch(lambda x, others=others: _Add.apply(x, next(others))):
            value = loss(leaf, y)
        value.backward()
        values.append(value.detach())
        gradients.append(leaf.grad / 2)
    return torch.stack(values).mean(), torch.cat(gradients), len(sums[0])


@pytest.mark.parametrize(
    ("choice", "partial", "regions", "shares"),
    [
        (Choice("dice-ce"), False, False, False),
        (Choice("dice-ce", {"batch_dice": True}), False, False, True),
        (Choice("dice-ce", {"batch_dice": True}), True, False, True),
        (Choice("dice-ce"), True, False, True),
        (Choice("ce"), True, False, True),
        (Choice("region-dice"), False, True, True),
        (Choice("region-dice", {"squared": False, "ce_weight": 1.0}), True, True, True),
    ],
)
def test_two_processes_have_the_loss_of_the_whole_batch(choice, partial, regions, shares):
    generator = torch.Generator().manual_seed(0)
    labels = CLASSES.with_ignore(7) if partial else CLASSES
    if regions:
        labels = labels.with_regions({"inner": (2,), "outer": (1, 2)})
    loss = create_loss(choice, labels)
    logits = torch.randn(4, 2 if regions else 3, 5, 5, 5, generator=generator)
    truth = torch.randint(0, 3, (4, 5, 5, 5), generator=generator)
    truth[0, :4] = 0  # the samples differ in what they hold
    if partial:
        truth[1, :3], truth[3, 2:] = IGNORED, IGNORED
    leaf = logits.clone().requires_grad_()
    whole = loss(leaf, truth)
    whole.backward()
    value, gradients, summed = _in_two_processes(loss, logits, truth)
    assert bool(summed) is shares
    torch.testing.assert_close(value, whole.detach(), rtol=0, atol=rounding(whole.detach()))
    torch.testing.assert_close(gradients, leaf.grad, rtol=0, atol=rounding(leaf.grad))


def test_a_dice_over_the_whole_batch_is_no_mean_over_processes():
    """The test above can fail: without the sums over all processes, the mean of two losses is another one."""
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(4, 3, 5, 5, 5, generator=generator), torch.zeros(4, 5, 5, 5, dtype=torch.long)
    truth[2:] = 1
    loss = create_loss(Choice("dice-ce", {"batch_dice": True}), CLASSES)
    apart = (loss(logits[:2], truth[:2]) + loss(logits[2:], truth[2:])) / 2
    assert abs(apart - loss(logits, truth)) > 0.01
