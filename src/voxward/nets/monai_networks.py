"""Networks of MONAI by name, from arguments that are plain data."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from torch import nn

from voxward.core.errors import UserError
from voxward.core.registry import unknown_name

NETWORKS = (
    "UNet", "SegResNet", "DynUNet", "SwinUNETR", "UNETR", "BasicUNet", "FlexibleUNet", "AttentionUnet", "VNet",
)  # fmt: skip
# Arguments that later releases of MONAI no longer take, and that decide nothing about the network.
_DROPPED: Mapping[str, tuple[str, ...]] = {"SwinUNETR": ("img_size",)}
# Arguments that would have MONAI download weights: here these are in a file.
_FIXED: Mapping[str, Mapping[str, Any]] = {"FlexibleUNet": {"pretrained": False}}
# Packages that MONAI does not bring along.
_NEEDED: Mapping[str, str] = {"SwinUNETR": "einops", "UNETR": "einops"}
# Greater numbers of channels, voxels or units than any network has.
_MOST = 100_000
_ALSO_CALLED = {"Unet": "UNet", "BasicUnet": "BasicUNet", "DynUnet": "DynUNet", "AttentionUNet": "AttentionUnet"}


def network_argument(name: str, arguments: Mapping[str, Any], argument: str) -> Any:
    """Return an argument of a network, or what MONAI takes where it is not given; None where it has no such argument.

    Args:
        name: The name of its class, one of NETWORKS.
        arguments: The arguments that are given.
        argument: The name of the argument.

    Raises:
        UserError: The network is not known.
    """
    known = inspect.signature(_class(name)).parameters
    default = known[argument].default if argument in known else None
    return arguments.get(argument, None if default is inspect.Parameter.empty else default)


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network of MONAI, with random weights.

    Args:
        name: The name of its class, one of NETWORKS.
        arguments: Its keyword arguments: numbers, texts, booleans, None, and lists and mappings of such.

    Raises:
        UserError: The name or an argument is not known, a package is missing, or MONAI refuses the arguments.
    """
    kind = _class(name)
    name = kind.__name__
    if name in _NEEDED and find_spec(_NEEDED[name]) is None:
        raise UserError(f"{name} of MONAI needs the package {_NEEDED[name]}: pip install {_NEEDED[name]}")
    known = inspect.signature(kind).parameters
    dropped = [each for each in _DROPPED.get(name, ()) if each not in known]
    given = {key: value for key, value in arguments.items() if key not in dropped}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UserError(f"{name} of the installed MONAI takes no argument {', '.join(map(repr, unknown))}")
    if large := [key for key, value in given.items() if not _buildable(value, 1000 if _counts_layers(key) else _MOST)]:
        raise UserError(f"{name} of MONAI with such a large {', '.join(large)} is not built")
    try:
        network: nn.Module = kind(**{**given, **_FIXED.get(name, {})})
    except Exception as error:  # MONAI checks its arguments in many ways
        raise UserError(f"MONAI builds no {name} from {given}: {type(error).__name__}: {error}") from error
    return network


def dynunet_arguments(network: nn.Module) -> dict[str, Any] | None:
    """Return the arguments that build a DynUNet of MONAI again, as plain data; None for any other network.

    Args:
        network: The network, with instance norms and without deep supervision.
    """
    from monai.networks.nets import DynUNet

    if not isinstance(network, DynUNet):
        return None
    return {
        "spatial_dims": 3,
        "in_channels": network.in_channels,
        "out_channels": network.out_channels,
        "kernel_size": [list(size) for size in network.kernel_size],
        "strides": [list(step) for step in network.strides],
        "upsample_kernel_size": [list(step) for step in network.upsample_kernel_size],
        "filters": list(network.filters),
        "norm_name": ["instance", {"affine": True}],
    }


def _counts_layers(argument: str) -> bool:
    return any(part in argument for part in ("num_res_units", "depths", "blocks", "num_layers", "num_heads"))


def _buildable(value: Any, most: int) -> bool:
    """Return whether whole numbers are of a size at which a network is made in seconds."""
    if isinstance(value, list | tuple):
        return len(value) <= 1000 and all(_buildable(each, most) for each in value)
    if isinstance(value, Mapping):
        return len(value) <= 1000 and all(_buildable(each, _MOST) for each in value.values())
    return not isinstance(value, int | float) or abs(value) <= most


def _class(name: str) -> Any:
    name = _ALSO_CALLED.get(name, name)
    if name not in NETWORKS:
        raise UserError(unknown_name("network of MONAI", name, dict.fromkeys(NETWORKS)))
    import monai.networks.nets as networks

    return getattr(networks, name)
