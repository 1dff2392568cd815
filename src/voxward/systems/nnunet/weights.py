"""The checkpoints of an nnU-Net results folder, read without running anything that is in them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.nets.counted import refuse_larger
from voxward.nets.nnunet import Architecture, Layer, NnUNet
from voxward.systems.checkpoint import differing, read_pickled, refuse_repeated, without_prefix

_SCALAR = np._core.multiarray.scalar  # type: ignore[attr-defined]
# nnU-Net notes its best score as a NumPy number. These build numbers and nothing else; NumPy 1 called one otherwise.
_NUMBERS: list[Any] = [
    _SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float32DType, np.dtypes.Float64DType,
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint of nnU-Net says about a prediction.

    Attributes:
        path: The file.
        weights: The parameters and buffers by name, as the file holds them.
        configuration: The name of the configuration that was trained.
        trainer: The name of the trainer.
        mirrors: The axes of the transposed array along which copies are averaged; empty for none.
    """

    path: Path
    weights: Mapping[str, Tensor]
    configuration: str
    trainer: str
    mirrors: tuple[int, ...]


def read_content(path: Path) -> dict[str, Any]:
    """Read all that a checkpoint file holds: tensors, numbers and texts, never code.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged, is a program, or names a type that is not allowed; the message lists these.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    content = read_pickled(path, "checkpoint of nnU-Net", _NUMBERS)
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), Mapping):
        raise UserError(f"{path} is no checkpoint of nnU-Net: it has no network_weights")
    return content


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: The file, such as `fold_0/checkpoint_final.pth`.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file cannot be read safely, or is no checkpoint of nnU-Net.
    """
    content = read_content(path)
    arguments = content.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, Mapping) else None
    if not isinstance(configuration, str):
        raise UserError(f"{path} does not name its configuration (init_args): it is no checkpoint of nnU-Net v2")
    weights = content["network_weights"]
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()):
        raise UserError(f"{path}: network_weights must be tensors by name")
    refuse_repeated(weights, path)
    given = content.get("inference_allowed_mirroring_axes")
    axes = () if given is None else given
    if not isinstance(axes, Sequence) or any(axis not in range(3) for axis in axes) or len(set(axes)) < len(axes):
        raise UserError(f"{path}: inference_allowed_mirroring_axes must hold axes, got {axes!r}")
    trainer = str(content.get("trainer_name", "nnUNetTrainer"))
    return Checkpoint(path, weights, configuration, trainer, tuple(map(int, axes)))


def network_of(checkpoint: Checkpoint, architecture: Architecture, channels: int, outputs: int) -> NnUNet:
    """Build the network of a checkpoint, with its weights.

    Args:
        checkpoint: The checkpoint.
        architecture: What the plan says about the network.
        channels: The number of input channels.
        outputs: The number of classes or regions.

    Returns:
        The network in evaluation mode.

    Raises:
        UserError: Names or shapes differ, which a trainer that changes the network makes them do.
    """
    found = own_names(checkpoint)
    if sum(architecture.encoder) + sum(architecture.decoder) > len(found):
        raise UserError(f"{checkpoint.path} does not fit the network of plans.json, which has more layers")
    network = _built(_with_batch_norm(architecture, found), channels, outputs, checkpoint.path)
    if wrong := differing(network, found):
        raise UserError(
            f"{checkpoint.path} does not fit the network of plans.json: {wrong} differ. Its trainer "
            f"{checkpoint.trainer!r} may have changed the network, which cannot be reproduced"
        )
    network.load_state_dict(found)
    return network.eval().requires_grad_(False)


def _built(architecture: Architecture, channels: int, outputs: int, weights: Path) -> NnUNet:
    try:
        refuse_larger(lambda: NnUNet(architecture, channels, outputs), weights)
        return NnUNet(architecture, channels, outputs)
    except (UserError, RuntimeError, ValueError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{weights.parents[1] / 'plans.json'}: the network cannot be built: {reason}") from error


def _with_batch_norm(architecture: Architecture, names: Mapping[str, Tensor]) -> Architecture:
    """nnU-Net's batch-norm trainer leaves the plan as it is, but its weights have running means."""
    if not any(name.endswith("norm.running_mean") for name in names):
        return architecture
    options = {key: value for key, value in architecture.norm.options.items() if key in ("eps", "affine", "momentum")}
    norm = Layer(f"BatchNorm{architecture.axes}d", options)
    fields = {name: getattr(architecture, name) for name in architecture.__dataclass_fields__}
    return Architecture(**{**fields, "norm": norm})


def own_names(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the weights by the names of `NnUNet`, each once.

    nnU-Net's modules hold some tensors under two names: a block's layers again as a list, and the encoder again inside
    the decoder.

    Args:
        checkpoint: The checkpoint.

    Raises:
        UserError: The two copies of a tensor differ, so that it is not known which one predicts.
    """
    found: dict[str, Tensor] = {}
    for name, value in checkpoint.weights.items():
        own = own_name(name)
        if own in found and not torch.equal(found[own], value):
            raise UserError(f"{checkpoint.path}: {name} differs from {own}, which is the same layer")
        found[own] = value
    return found


def own_name(name: str) -> str:
    """Return the name that a tensor of a checkpoint has in `NnUNet`.

    Args:
        name: The name in the checkpoint, which may have a prefix of distributed or compiled training.
    """
    name = without_prefix(name)
    if name.startswith("decoder.encoder."):
        name = name.removeprefix("decoder.")
    before, inside, after = name.partition(".all_modules.")
    if not inside:
        return name
    number, _, parameter = after.partition(".")
    return f"{before}.{'conv' if number == '0' else 'norm'}.{parameter}"


def folds_in(folder: Path, name: str, folds: Sequence[str | int] | None) -> tuple[Path, ...]:
    """Return the checkpoints of the folds that predict together.

    Args:
        folder: The results folder.
        name: The name of the checkpoint file.
        folds: The folds, as numbers or `all`; None takes every numbered fold that has the checkpoint, or else
            `fold_all`.

    Raises:
        FileNotFoundError: A fold does not have the checkpoint; the message names those that do.
        UserError: A fold is named twice.

    Warns:
        UserWarning: The folds are not named, and a numbered one has no such checkpoint, so that it is left out.
    """
    there = [path.parent.name.removeprefix("fold_") for path in sorted(folder.glob(f"fold_*/{name}"))]
    numbered = [fold for fold in there if fold.isdecimal()]
    chosen = [str(fold) for fold in folds] if folds is not None else numbered or there
    if len(set(chosen)) < len(chosen):
        raise UserError(f"folds must differ, got {', '.join(chosen)}")
    missing = [fold for fold in chosen if fold not in there]
    if missing or not chosen:
        others = sorted({path.name for path in folder.glob("fold_*/checkpoint_*.pth")} - {name})
        raise FileNotFoundError(
            f"{folder} has no {name} in {'fold ' + ', '.join(missing) if missing else 'any fold'}; folds that have it: "
            f"{', '.join(there) or 'none'}" + (f"; other checkpoints: {', '.join(others)}" if others else "")
        )
    without = sorted(path.name for path in folder.glob("fold_[0-9]*") if not (path / name).is_file())
    if folds is None and without:
        warnings.warn(
            f"{folder}: {', '.join(without)} has no {name}, and is left out: folds {', '.join(chosen)} predict",
            stacklevel=2,
        )
    return tuple(folder / f"fold_{fold}" / name for fold in chosen)
