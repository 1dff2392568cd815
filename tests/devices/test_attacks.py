"""All attacks on an accelerator: nothing is mixed with the processor's tensors, and the results are the same bits."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

from tests.attacks.samples import RUN, cheap
from tests.attacks.toys import THREAT, case, conv_model
from voxward.attacks.threat import ThreatModel
from voxward.core.model import PatchModel


def attacked(attack, device, head="softmax", batch=1, threat=THREAT):
    """The attack's result on a patch model on a device."""
    model = conv_model(2, classes=3, head=head, dtype=torch.float32)
    volume, target = case(model, batch=batch, size=8)
    moved = PatchModel(model.network.to(device), head)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = attack(moved, volume.to(device), target.to(device), threat, seed=3)
    return result


def told(result):
    return {
        name: getattr(result, name)
        for name in ("adversarial", "clean_dice", "dice", "history", "forwards", "gradients")
    }


@pytest.mark.parametrize("name", RUN)
def test_every_attack_runs_and_finds_the_same(name, both):
    both.same(lambda device: told(attacked(cheap(name), device)))
