"""What the perturbation costs: a Free step of five replays against five standard steps on the same batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import torch
from lightning_fabric import Fabric
from torch import nn

from benchmarks.speed.harness import Duel
from voxward.core.recipe import Choice, Defence
from voxward.losses.deep import supervised
from voxward.losses.registry import create_loss
from voxward.nets.lattice import Lattice
from voxward.nets.zoo import dynunet
from voxward.training.defence import FreeStep
from voxward.training.learner import Learner
from voxward.training.schedule import create_schedule
from voxward.training.steps import StandardStep, StepInput

REPLAYS = 5
HIPPOCAMPUS = ((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
"""The lattice's strides by ROG's rules for the hippocampus data."""


def duels() -> Iterator[Duel]:
    """At equal optimiser steps Free may take 1.15 times as long."""
    torch.manual_seed(0)
    networks = {"dynunet, 2 x 40x56x40": (dynunet(1, 3), (40, 56, 40)),
                "lattice, 2 x 32x48x32": (Lattice(1, 3, HIPPOCAMPUS), (32, 48, 32))}  # fmt: skip
    for name, (network, size) in networks.items():
        batch = _batch(size)
        free = FreeStep(_learner(network), Defence("free", replays=REPLAYS))
        standard = StandardStep(_learner(copy.deepcopy(network)))

        yield Duel(
            f"Free step, {REPLAYS} replays, {name}", partial(free, batch), partial(_repeat, standard, batch),
            f"{REPLAYS} standard steps", 1 / 1.15,
        )  # fmt: skip


def _repeat(step: StandardStep, batch: StepInput) -> None:
    for _ in range(REPLAYS):
        step(batch)


def _learner(network: nn.Module) -> Learner:
    fabric = Fabric(accelerator="cuda" if torch.cuda.is_available() else "cpu", devices=1)
    wrapped, optimizer = fabric.setup(network.train(), torch.optim.Adam(network.parameters(), 1e-4))
    loss, schedule = supervised(create_loss(Choice("dice-ce")), ()), create_schedule(Choice("constant"))
    return Learner(fabric, wrapped, optimizer, loss, schedule)


def _batch(size: tuple[int, int, int]) -> StepInput:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.randn(2, 1, *size, device=device)
    labels = torch.randint(0, 3, (2, *size), device=device)
    windows = torch.tensor([[[-2.0, 2.0]]] * 2, device=device)
    return StepInput(images, labels, windows, 1, 0.5, torch.Generator())
