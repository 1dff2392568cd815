"""Every network by name, and what each takes from a plan."""

from __future__ import annotations

import inspect
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
from voxward.nets.lattice import Lattice
from voxward.nets.nas_unet import nas_unet
from voxward.nets.resdsn import PRESETS, preset
from voxward.nets.searched import embed_genotype, searched
from voxward.nets.unet import unet_2d
from voxward.nets.zoo import dynunet

FLAT: Size3 = (1, 1, 1)


@dataclass(frozen=True)
class NetworkEntry:
    """`build(in_channels, out_channels, **options)` makes the network; `from_plan` gives the options a plan decides.

    embed: the same options, with files replaced by what they hold.
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


NETWORKS: Registry[NetworkEntry] = Registry(
    "network",
    {
        "rog": NetworkEntry(Lattice, _lattice_options),
        "dynunet": NetworkEntry(dynunet, _dynunet_options),
    }
    | {"brats-unet": NetworkEntry(BratsUNet, _four_level_options)}
    | {
        "searched": NetworkEntry(searched, _plain_strides, embed_genotype),
        "unet-2d": NetworkEntry(unet_2d, _pooling_strides),
        "nas-unet": NetworkEntry(nas_unet, _nas_unet_options),
        "autodeeplab": NetworkEntry(autodeeplab, _autodeeplab_options),
    }
    | {name: NetworkEntry(preset(name), _four_level_options) for name in PRESETS},
)


def create_network(name: str, in_channels: int, out_channels: int, **options: Any) -> nn.Module:
    """Build a registered network that maps (b, in_channels, d, h, w) to logits (b, out_channels, d, h, w).

    Raises ValueError for an unknown name, an unknown option or a channel count below 1.
    """
    if in_channels < 1 or out_channels < 1:
        raise UserError(
            f"a network needs at least 1 input channel and 1 output channel, got {in_channels} and {out_channels}"
        )
    check_network(name, options)
    return NETWORKS[name].build(in_channels, out_channels, **options)


def check_network(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for an unknown network, an option it does not have, and one it needs."""
    legal = dict(list(inspect.signature(NETWORKS[name].build).parameters.items())[2:])
    unknown = sorted(set(options) - set(legal))
    if unknown:
        raise UserError(f"network {name!r} has no option {', '.join(unknown)}; it has: {', '.join(legal)}")
    needed = [key for key, option in legal.items() if option.default is option.empty and options.get(key) is None]
    if needed:
        raise UserError(f"network {name!r} needs the option {', '.join(needed)} (recipe: network.options.{needed[0]})")


def self_contained(choice: Choice) -> Choice:
    """A recipe's network that needs no other file: its options with files replaced by what they hold.

    Raises ValueError for an unknown network or a file that is not what it should be, FileNotFoundError without it.
    """
    return Choice(choice.name, NETWORKS[choice.name].embed(choice.options))


def network_for_plan(name: str, plan: Plan, options: Mapping[str, Any]) -> nn.Module:
    """The network a plan asks for; `options` (a recipe's) win over the plan's."""
    chosen = NETWORKS[name].from_plan(plan) | {key: _tuples(value) for key, value in options.items()}
    return create_network(name, len(plan.channels), plan.labels.outputs, **chosen)


def _tuples(value: Any) -> Any:
    """YAML's lists as the tuples that networks take."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
