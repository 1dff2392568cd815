"""The weights of a bundle: a file of tensors, read without running anything that is in it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError

# Under what name a checkpoint holds the weights, where it holds more than these.
_NAMES = ("model", "state_dict", "model_state_dict", "network", "net", "network_weights")
_PREFIXES = ("module.", "_orig_mod.")
_SHOWN = 5
# A mapping that holds weights more deeply than that may hold itself.
_DEEPEST = 5


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a network: tensors, never code.

    Args:
        path: The file: a state dict, or a mapping that holds one as `model`, `state_dict` or `network`.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged, is a program (TorchScript), names a type that may run code, or holds no weights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights {path}: see the bundle's docs for how to download them")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is not loaded: {_unsafe(path)}") from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path} is damaged, or holds no weights: {reason}") from error
    weights = content
    for _ in range(_DEEPEST):
        if isinstance(weights, Mapping) and not _are_weights(weights):
            weights = next((weights[name] for name in _NAMES if isinstance(weights.get(name), Mapping)), None)
    if not isinstance(weights, Mapping) or not _are_weights(weights):
        raise UserError(f"{path} holds no weights: tensors by name, or such a mapping as {', '.join(_NAMES)}")
    return {_own_name(name): value for name, value in weights.items()}


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Put weights into a network; all must be there, and no other.

    Args:
        network: The network, which is changed.
        weights: The weights by name.
        path: Their file, for messages.

    Returns:
        The network, in evaluation mode and without gradients of its parameters.

    Raises:
        UserError: Names or shapes differ.
    """
    own = network.state_dict()
    wrong = sorted(name for name in weights.keys() | own.keys() if _differ(weights.get(name), own.get(name)))
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(f"{path} does not fit the network of the bundle: {', '.join(wrong[:_SHOWN])}{more} differ")
    network.load_state_dict(dict(weights))
    return network.eval().requires_grad_(False)


def _are_weights(content: Mapping[str, object]) -> bool:
    return bool(content) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def _differ(one: Tensor | None, other: Tensor | None) -> bool:
    return one is None or other is None or one.shape != other.shape


def _own_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _unsafe(path: Path) -> str:
    """What the file would need that is not allowed."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # whatever a damaged or hostile file makes of the search, the file stays refused
        names = []
    if not names:
        return "it is damaged, or holds more than numbers"
    return f"it names {', '.join(sorted(names)[:_SHOWN])}, which may run code when it is loaded"
