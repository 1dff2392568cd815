"""The standard step: the loss of every case of a batch, beside the batch's own."""

import copy

import pytest
import torch
from torch import nn

from tests.training.test_defence import _batch, _learner, _network
from voxward.core.recipe import Choice, Defence
from voxward.losses.deep import supervised
from voxward.losses.registry import create_loss
from voxward.training.defence import DEFENCES
from voxward.training.steps import StandardStep

BATCHWISE = create_loss(Choice("dice-ce", {"batch_dice": True}))


class _Deep(nn.Module):
    """Main logits and auxiliary ones; no sample depends on another."""

    def __init__(self):
        super().__init__()
        self.layers, self.head = _network(), nn.Conv3d(1, 3, 2, 2)

    def forward(self, x):
        return self.layers(x), self.head(x)


@pytest.mark.parametrize("deep", [False, True])
def test_a_case_s_loss_is_that_of_a_batch_of_one(deep):
    """Also where the batch's loss is no mean of theirs, as with Dice over the whole batch."""
    torch.manual_seed(0)
    network = _Deep() if deep else _network()
    loss = supervised(BATCHWISE, (0.5,)) if deep else BATCHWISE
    twin = copy.deepcopy(network)
    learner = _learner(network)
    learner.loss = loss
    batch = _batch()
    (value,) = StandardStep(learner)(batch)
    alone = [loss(twin(batch.images[n : n + 1]), batch.labels[n : n + 1]) for n in (0, 1)]
    torch.testing.assert_close(learner.case_losses, torch.stack(alone).detach())
    assert not learner.case_losses.requires_grad
    assert abs(float(value) - float(learner.case_losses.mean())) > 1e-5


def test_a_batch_of_one_is_its_case_and_the_mean_of_samples_the_mean_of_cases():
    learner = _learner(_network())
    batch = _batch()
    one = _batch()
    one = type(one)(one.images[:1], one.labels[:1], one.ranges[:1], 1, 0.5, one.generator)
    assert torch.equal(StandardStep(learner)(one), learner.case_losses)
    (value,) = StandardStep(learner)(batch)
    torch.testing.assert_close(learner.case_losses.mean(), value)


@pytest.mark.parametrize("name", list(DEFENCES))
def test_every_defence_notes_its_cases(name):
    learner = _learner(_network())
    DEFENCES[name](learner, Defence(name, steps=1, replays=2))(_batch())
    assert learner.case_losses.shape == (2,)
    assert learner.case_losses.isfinite().all()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_not_clipped(wrong):
    learner = _learner(_network())
    learner.clip_gradient_norm = 1.0
    before = copy.deepcopy(learner.network.state_dict())
    parameter = next(learner.network.parameters())
    with pytest.raises(FloatingPointError, match="norm of the gradients is"):
        learner.update((parameter * wrong).sum())
    assert all(torch.equal(value, before[name]) for name, value in learner.network.state_dict().items())


def test_gradients_are_clipped_to_the_norm():
    learner = _learner(_network())
    learner.clip_gradient_norm = 0.5
    learner.update(sum((parameter * 100).sum() for parameter in learner.network.parameters()))
    norm = torch.stack([parameter.grad.norm() for parameter in learner.network.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.5), rtol=1e-4, atol=0)
