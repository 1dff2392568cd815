"""Writes the checkpoint of a network whose weights have changed, for nnU-Net to load like its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.files import telling_of_a_full_disk
from voxward.nets.nnunet import NnUNet
from voxward.systems.nnunet.weights import own_name


def with_weights(content: Mapping[str, Any], network: NnUNet) -> dict[str, Any]:
    """Return the content of a checkpoint with the weights of a network.

    Every other entry stays as it is, but for the state of the optimiser, which belongs to other weights: it becomes
    None. nnU-Net's predictor does not read it.

    Args:
        content: The content of the checkpoint that the network was read from, see `weights.read_content`.
        network: The network.

    Returns:
        The content, whose weights have the names of the given ones, in their order. A tensor that nnU-Net holds under
        several names is one tensor here, too.

    Raises:
        UserError: The names are not those of the network.
    """
    before, own = content["network_weights"], network.state_dict()
    lacking = sorted({own_name(name) for name in before} ^ own.keys())
    if lacking:
        raise UserError(f"the checkpoint does not fit the network: {', '.join(lacking[:3])} differ")
    shared: dict[str, Tensor] = {}
    weights = type(before)()
    for name, value in before.items():
        key = own_name(name)
        if key not in shared:
            shared[key] = own[key].detach().to("cpu", value.dtype, copy=True).contiguous()
        weights[name] = shared[key]
    if (metadata := getattr(before, "_metadata", None)) is not None:
        weights._metadata = metadata
    changed = {"network_weights": weights, **({"optimizer_state": None} if "optimizer_state" in content else {})}
    return {**content, **changed}


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        path: The file, which must not be the one that others read meanwhile: see `core.files.atomic_write`.
        content: The content.
    """
    with telling_of_a_full_disk(path), path.open("wb") as file:
        torch.save(dict(content), file)
