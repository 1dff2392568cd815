"""Which windows a network gives back is told from its sizes; the oracle is the network itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from voxward.core.errors import UserError
from voxward.nets.nnunet import Architecture, Layer, NnUNet
from voxward.systems.nnunet.architecture import refuse_unfit


def drawn(rng: random.Random) -> tuple[Architecture, tuple[int, ...]]:
    """A small network, most of whose sizes fit, and a window."""
    axes, stages = rng.choice((2, 3)), rng.choice((2, 3))

    def size(usual: tuple[int, ...], rare: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(rng.choice(rare if rng.random() < 0.04 else usual) for _ in range(axes))

    norm = rng.choice(("InstanceNorm", "BatchNorm"))
    network = Architecture(
        residual=rng.random() < 0.5, features=(2,) * stages,
        kernels=tuple(size((1, 3), (2, 4, 5)) for _ in range(stages)),
        strides=tuple(size((1,), (2,)) if n == 0 else size((1, 2), (3,)) for n in range(stages)),
        encoder=tuple(rng.choice((1, 2)) for _ in range(stages)),
        decoder=tuple(rng.choice((1, 2)) for _ in range(stages - 1)),
        bias=True, norm=Layer(f"{norm}{axes}d"), nonlinearity=Layer("LeakyReLU"),
    )  # fmt: skip
    return network, size((4, 8), (1, 2, 6, 7, 12))


def gives_back(network: Architecture, window: tuple[int, ...]) -> bool:
    images = torch.randn(1, 1, *window)
    try:
        with torch.no_grad():
            return NnUNet(network, 1, 2).eval()(images).shape[2:] == window
    except (RuntimeError, ValueError):
        return False


def test_what_a_network_gives_back_is_what_its_sizes_say():
    rng, found = random.Random(0), []
    for _ in range(300):
        network, window = drawn(rng)
        try:
            refuse_unfit(network, window, Path("plans.json"))
            fits = True
        except UserError:
            fits = False
        assert fits == gives_back(network, window), (network, window)
        found.append(fits)
    assert 100 < sum(found) < 250


def test_a_kernel_as_wide_as_its_stride_fits_the_coarsest_stage():
    network = Architecture(
        residual=False, features=(2, 2), kernels=((3, 3), (2, 2)), strides=((1, 1), (2, 2)), encoder=(1, 1),
        decoder=(1,), bias=True, norm=Layer("BatchNorm2d"), nonlinearity=Layer("ReLU"),
    )  # fmt: skip
    assert gives_back(network, (8, 8))
    refuse_unfit(network, (8, 8), Path("plans.json"))
    with pytest.raises(UserError, match=r"plans\.json: kernel_sizes \[\[3, 3\], \[2, 2\]\] and strides"):
        refuse_unfit(network, (8, 7), Path("plans.json"))
