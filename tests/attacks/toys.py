"""Small models whose behaviour under attack is known or quick to compute."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from voxward.attacks.threat import ThreatModel
from voxward.core.model import Head, Objective, PatchModel

BOUNDS = ((-2.0, 2.0),)
"""The intensity range of the toy volumes."""

THREAT = ThreatModel(eps=8 / 255, bounds=BOUNDS)


def conv_model(
    dims: int = 2, classes: int = 3, head: Head = "softmax", channels: int = 1, dtype: torch.dtype = torch.float64
) -> PatchModel:
    """A random three-layer network without normalisation, 2D or 3D, with `classes` logits per voxel."""
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    with torch.random.fork_rng():
        torch.manual_seed(classes + 10 * dims)
        network = nn.Sequential(
            conv(channels, 6, 3, padding=1), nn.Tanh(), conv(6, 6, 3, padding=1), nn.Tanh(), conv(6, classes, 1)
        ).to(dtype)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2)
            # Centred, so that every class or region is predicted somewhere.
            scores = network(torch.randn(2, channels, *(10,) * dims, dtype=dtype)).transpose(0, 1).flatten(1)
            network[-1].bias.sub_(scores.mean(1))
    return PatchModel(network, head)


def case(model: PatchModel, dims: int = 2, batch: int = 2, size: int = 8, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Volumes in the network's number type and, as the truth, its own mask with a tenth of the voxels changed."""
    generator = torch.Generator().manual_seed(batch)
    dtype = next(model.network.parameters()).dtype
    volume = torch.randn(batch, channels, *(size,) * dims, generator=generator, dtype=torch.float64).to(dtype)
    logits = model.logits(volume)
    mask = model.segment(logits)
    other = torch.randint(0, 2 if model.head == "regions" else logits.shape[1], mask.shape, generator=generator)
    return volume, torch.where(torch.rand(mask.shape, generator=generator) < 0.1, other, mask)


def linear_model(head: Head = "softmax") -> PatchModel:
    """Of each voxel x, logits (0, 2 x - 0.2), or one region with logit 2 x - 0.2."""
    network = nn.Conv2d(1, 2 if head == "softmax" else 1, 1).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 2.0] if head == "softmax" else [2.0]).view(-1, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.0, -0.2] if head == "softmax" else [-0.2]))
    return PatchModel(network, head)


def linear_optimum(volume: Tensor, target: Tensor, threat: ThreatModel) -> Tensor:
    """The l_inf ball's worst volume for `linear_model` and any loss that falls with each voxel's margin."""
    truth = target.view(volume.shape)
    ball = threat.ball(volume)
    return torch.minimum(torch.maximum(volume + ball.eps * (1 - 2.0 * truth), ball.low), ball.high)


@dataclass
class Recorder:
    """A model that keeps what it was asked for."""

    inner: PatchModel
    points: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    looks: list[Tensor] = field(default_factory=list)

    @property
    def head(self) -> Head:
        return self.inner.head

    def value_and_grad(self, volume: Tensor, target: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        found = self.inner.value_and_grad(volume, target, objective)
        self.points.append(volume.clone())
        self.values.append(found[1])
        return found

    def logits(self, volume: Tensor) -> Tensor:
        self.looks.append(volume.clone())
        return self.inner.logits(volume)

    def sweep(self, volume: Tensor):
        return self.inner.sweep(volume)

    def logits_after(self, before, volume, box):
        return self.inner.logits_after(before, volume, box)

    def segment(self, logits: Tensor) -> Tensor:
        return self.inner.segment(logits)
