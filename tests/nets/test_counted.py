"""The size of a network is known before memory is taken for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tests.nets.test_networks import NEEDED
from voxward.core.errors import UserError
from voxward.nets.counted import numbers_of, refuse_larger
from voxward.nets.monai_networks import build_network
from voxward.nets.registry import NETWORKS, create_network

PLAIN = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
MONAI = {
    "UNet": {**PLAIN, "channels": [4, 8], "strides": [2]}, "SegResNet": {**PLAIN, "init_filters": 8},
    "DynUNet": {
        **PLAIN, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 6, 8]
    },
    "SwinUNETR": {**PLAIN, "feature_size": 12}, "UNETR": {**PLAIN, "img_size": 32, "feature_size": 4, "hidden_size": 48,
    "mlp_dim": 48},
    "BasicUNet": {**PLAIN, "features": [4, 4, 8, 8, 8, 4]}, "VNet": PLAIN,
    "AttentionUnet": {**PLAIN, "channels": [4, 8], "strides": [2]},
}  # fmt: skip


def counted(network: nn.Module) -> int:
    return sum(value.numel() for value in (*network.parameters(), *network.buffers()))


@pytest.mark.parametrize("name", MONAI)
def test_networks_of_monai_are_counted_as_they_are(name: str):
    if name in ("SwinUNETR", "UNETR") and importlib.util.find_spec("einops") is None:
        pytest.skip("needs einops")
    assert numbers_of(lambda: build_network(name, MONAI[name])) == counted(build_network(name, MONAI[name])) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_own_networks_are_counted_as_they_are(name: str):
    options = NEEDED.get(name, {})
    assert numbers_of(lambda: create_network(name, 1, 2, **options)) == counted(create_network(name, 1, 2, **options))


def test_a_network_is_no_larger_than_the_file_of_its_weights(tmp_path: Path):
    (tmp_path / "weights").write_bytes(b"\0" * 100)
    refuse_larger(lambda: nn.Linear(9, 10), tmp_path / "weights")
    with pytest.raises(UserError, match="110 numbers"):
        refuse_larger(lambda: nn.Linear(10, 10), tmp_path / "weights")


def test_a_network_of_any_size_is_counted_at_once():
    assert numbers_of(lambda: nn.Linear(10**7, 10**7, bias=False)) == 10**14


@pytest.mark.parametrize("name", ["dynunet", "rog", "brats-unet", "unet-2d"])
def test_nothing_is_drawn_for_a_network_without_numbers(name):
    """PyTorch would import its compiler for it, which takes seconds."""
    seen = []

    class Calls(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Calls():
        assert numbers_of(lambda: create_network(name, 1, 2)) > 0
    assert seen
    assert not {torch.Tensor.normal_, torch.Tensor.uniform_} & set(seen)


def test_a_network_of_one_key_is_counted_once_and_compared_with_every_file(tmp_path):
    built = []

    def build():
        built.append(None)
        return nn.Linear(9, 10)

    for length in (100, 1000):
        (tmp_path / "weights").write_bytes(bytes(length))
        refuse_larger(build, tmp_path / "weights", "a key of this test")
    (tmp_path / "weights").write_bytes(bytes(99))
    with pytest.raises(UserError, match="99 bytes, and the network that stands beside it would have 100 numbers"):
        refuse_larger(build, tmp_path / "weights", "a key of this test")
    assert len(built) == 1
