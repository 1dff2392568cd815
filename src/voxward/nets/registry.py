"""Every network by its name in a recipe, and what each takes from a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from voxward.core.errors import UserError
from voxward.core.plan import Plan
from voxward.core.recipe import Choice
from voxward.core.registry import Registry
from voxward.core.types import Size3
from voxward.nets.autodeeplab import autodeeplab
from voxward.nets.brats_unet import BratsUNet
from voxward.nets.c2fnas import C2FNAS
from voxward.nets.lattice import Lattice
from voxward.nets.mpunet import MPUNet
from voxward.nets.nas_unet import nas_unet
from voxward.nets.resdsn import PRESETS, preset
from voxward.nets.searched import embed_genotype, searched
from voxward.nets.unet import unet_2d
from voxward.nets.zoo import UNetPlusPlus, dynunet

FLAT: Size3 = (1, 1, 1)


@dataclass(frozen=True)
class NetworkEntry:
    """How a network is made.

    Args:
        build: A function or class that takes the number of input channels, the number of output channels and options
            by name, and returns the network.
        from_plan: A function from a plan to the options that the plan decides.
        embed: A function from options to the same options with files replaced by what they hold.
    """

    build: Callable[..., nn.Module]
    from_plan: Callable[[Plan], dict[str, Any]]
    embed: Callable[[Mapping[str, Any]], dict[str, Any]] = dict


def _lattice_options(plan: Plan) -> dict[str, Any]:
    # A plan with fewer steps starts with flat ones, so that the finest level keeps its resolution.
    return {"strides": (FLAT,) * (5 - len(plan.strides)) + plan.strides}


def _four_level_options(plan: Plan) -> dict[str, Any]:
    if len(plan.strides) > 3:
        raise UserError(f"the network has four resolutions, and the plan asks for {len(plan.strides) + 1}")
    return {"strides": (FLAT,) * (3 - len(plan.strides)) + plan.strides}


def _five_level_options(plan: Plan) -> dict[str, Any]:
    return {"strides": (FLAT,) * (4 - len(plan.strides)) + plan.strides[:4]}


def _dynunet_options(plan: Plan) -> dict[str, Any]:
    kept = [n for n, stride in enumerate(plan.strides) if stride != FLAT]
    kernels = [plan.kernel_sizes[0], *(plan.kernel_sizes[n + 1] for n in kept)]
    return {"strides": tuple(plan.strides[n] for n in kept), "kernel_sizes": tuple(kernels)}


def _plain_strides(plan: Plan) -> dict[str, Any]:
    return {"strides": plan.strides}


def _pooling_strides(plan: Plan) -> dict[str, Any]:
    return {"strides": plan.strides[:4]}


def _autodeeplab_options(plan: Plan) -> dict[str, Any]:
    return {"strides": plan.strides[:5]}


def _nas_unet_options(plan: Plan) -> dict[str, Any]:
    return {"strides": plan.strides[:7]}


def _mpunet_options(plan: Plan) -> dict[str, Any]:
    if plan.labels.regions:
        raise UserError("mpunet fuses the probabilities of classes that exclude each other: it has no regions")
    return {}


NETWORKS: Registry[NetworkEntry] = Registry(
    "network",
    {
        "rog": NetworkEntry(Lattice, _lattice_options),
        "dynunet": NetworkEntry(dynunet, _dynunet_options),
        "unet-plus-plus": NetworkEntry(UNetPlusPlus, _five_level_options),
    }
    | {"brats-unet": NetworkEntry(BratsUNet, _four_level_options)}
    | {
        "searched": NetworkEntry(searched, _plain_strides, embed_genotype),
        "unet-2d": NetworkEntry(unet_2d, _pooling_strides),
        "nas-unet": NetworkEntry(nas_unet, _nas_unet_options),
        "autodeeplab": NetworkEntry(autodeeplab, _autodeeplab_options),
        "c2fnas": NetworkEntry(C2FNAS, _five_level_options),
        "mpunet": NetworkEntry(MPUNet, _mpunet_options),
    }
    | {name: NetworkEntry(preset(name), _four_level_options) for name in PRESETS},
)

_BUILDERS = Registry(NETWORKS.family, {name: entry.build for name, entry in NETWORKS.items()}, "network.options")


def create_network(name: str, in_channels: int, out_channels: int, **options: Any) -> nn.Module:
    """Make a network with random weights.

    Args:
        name: A name in `NETWORKS`.
        in_channels: The number of image channels, at least 1.
        out_channels: The number of classes with the background, or of regions; at least 1.
        **options: The options of the network, such as its strides or its number of filters.

    Returns:
        A module that maps images (b, in_channels, d, h, w) to logits (b, out_channels, d, h, w). Each of d, h and w
        must be a multiple of the total stride of the network along its axis.

    Raises:
        UserError: The name or an option is unknown, an option is missing or has a wrong value, or a number of channels
            is below 1.

    Example:
        >>> network = voxward.create_network("rog", in_channels=1, out_channels=3)
        >>> network(torch.zeros(1, 1, 32, 32, 32)).shape
        torch.Size([1, 3, 32, 32, 32])
    """
    if in_channels < 1 or out_channels < 1:
        raise UserError(
            f"a network needs at least 1 input channel and 1 output channel, got {in_channels} and {out_channels}"
        )
    return _BUILDERS.build(name, in_channels, out_channels, **options)


def check_network(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a network that is unknown, options that it does not have, and those that it lacks, without making it.

    Args:
        name: The name of the network, as a recipe writes it.
        options: Its options by name, as a recipe writes them.

    Raises:
        UserError: The name or an option is unknown, or an option is missing.
    """
    _BUILDERS.check(name, options, given=2)


def self_contained(choice: Choice) -> Choice:
    """Return the network that a recipe names, with the files among its options replaced by what they hold.

    Args:
        choice: The name and the options of the network.

    Returns:
        The same network, which needs no other file.

    Raises:
        UserError: The network is unknown, or a file is not what it should be.
        FileNotFoundError: A file is not there.
    """
    return Choice(choice.name, NETWORKS[choice.name].embed(choice.options))


def network_for_plan(name: str, plan: Plan, options: Mapping[str, Any]) -> nn.Module:
    """Make a network that fits a plan, with random weights.

    Args:
        name: A name in `NETWORKS`.
        plan: The plan, which decides the number of channels and classes, and options such as the strides.
        options: The options of a recipe, which replace those of the plan.

    Returns:
        A module that maps images (b, c, d, h, w) to logits (b, k, d, h, w), with c channels and k classes or regions.

    Raises:
        UserError: The name or an option is unknown, or the network does not fit the plan.
    """
    chosen = NETWORKS[name].from_plan(plan) | {key: _tuples(value) for key, value in options.items()}
    return create_network(name, len(plan.channels), plan.labels.outputs, **chosen)


def class_tensors(network: Choice, plan: Plan) -> tuple[str, ...]:
    """Return the names of a network's parameters and buffers that belong to single classes: its last layers.

    They are those whose shape changes with the number of classes.

    Args:
        network: The name and the options of the network.
        plan: The plan.
    """
    chosen = NETWORKS[network.name].from_plan(plan) | {key: _tuples(value) for key, value in network.options.items()}
    first, second = (
        create_network(network.name, len(plan.channels), plan.labels.outputs + more, **chosen) for more in (0, 1)
    )
    shapes = [
        {name: tensor.shape for name, tensor in (*net.named_parameters(), *net.named_buffers())}
        for net in (first, second)
    ]
    return tuple(name for name, shape in shapes[0].items() if shapes[1][name] != shape)


def _tuples(value: Any) -> Any:
    """Turn the lists of a YAML file into the tuples that networks take."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
