"""The weights of a bundle: a file of tensors, read without running anything that is in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.systems.checkpoint import differing, read_pickled, refuse_repeated, without_prefix

# Under what name a checkpoint holds the weights, where it holds more than these.
_NAMES = ("model", "state_dict", "model_state_dict", "network", "net", "network_weights")
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
    content = read_pickled(path, "file of weights")
    weights = content
    for _ in range(_DEEPEST):
        if isinstance(weights, Mapping) and not _are_weights(weights):
            weights = next((weights[name] for name in _NAMES if isinstance(weights.get(name), Mapping)), None)
    if not isinstance(weights, Mapping) or not _are_weights(weights):
        raise UserError(f"{path} holds no weights: tensors by name, or such a mapping as {', '.join(_NAMES)}")
    refuse_repeated(weights, path)
    return {without_prefix(name): value for name, value in weights.items()}


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
    if wrong := differing(network, weights):
        raise UserError(f"{path} does not fit the network of the bundle: {wrong} differ")
    network.load_state_dict(dict(weights))
    return network.eval().requires_grad_(False)


def _are_weights(content: Mapping[str, object]) -> bool:
    return bool(content) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
