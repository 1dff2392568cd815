"""Batch norms under adversarial training: their running statistics are those of what the weights learn on."""

import pytest
import torch
from torch import nn

from tests.training.test_defence import _batch, _learner
from voxward.core.recipe import Defence
from voxward.training.defence import DEFENCES


@pytest.mark.parametrize(("name", "forwards"), [("free", 3), ("pgd", 1), ("trades", 1), ("noise", 1), ("mixed", 1)])
@pytest.mark.parametrize("number", [0, 1])  # the clean loss is measured on batch 0 only
def test_only_training_forwards_move_the_running_statistics(name, forwards, number):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 3, 1))
    step = DEFENCES[name](_learner(network), Defence(name, 8 / 255, replays=3, steps=2))
    network.train()
    step(_batch(number))
    assert int(network[1].num_batches_tracked) == forwards
    assert network.training
