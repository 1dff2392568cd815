"""The sizes of the networks that MS-NAS compares: the paper's figures, the widths that come near them, and ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from voxward.architecture_search.cost import Cost, profile
from voxward.core.plan import Plan
from voxward.nets.nas_unet import NasUNet
from voxward.nets.registry import create_network, network_for_plan

T = TypeVar("T")

SEARCHED = ("msnas-3", "msnas-4", "msnas-5")
NETWORKS = ("unet-2d", "nas-unet", "autodeeplab", *SEARCHED)

PAPER = {
    "unet-2d": (13.39, 31.01), "nas-unet": (12.45, 28.43), "autodeeplab": (14.45, 33.06), "msnas-3": (10.52, 21.33),
    "msnas-4": (10.52, 21.33), "msnas-5": (11.51, 23.31),
}  # fmt: skip
"""Millions of parameters and 10^9 multiply-adds of the paper's table 1."""

# The widths that come nearest to the paper's sizes, see the guide; those of MS-NAS follow from the genotype.
_WIDTHS = {"unet-2d": 64, "nas-unet": 140, "autodeeplab": 25}
_CPU_UNET = 16
_LEAST = {"nas-unet": 16}
_MOST = 256
_CHANNELS, _OUTPUTS, _SLICE = 1, 2, (256, 256, 1)


@dataclass(frozen=True)
class Sized:
    """A network at a width.

    Args:
        options: The options of the network.
        filters: Its number of filters.
        parameters: Its parameters.
        macs: Its multiply-adds for one slice.
    """

    options: Mapping[str, Any]
    filters: int
    parameters: int
    macs: int


def fitted(network: str, plan: Plan, genotypes: Mapping[str, Any], full: bool) -> Sized:
    """Return a network for a plan: of the published width, or with multiply-adds that are to U-Net's as in the paper.

    Args:
        network: A name in NETWORKS.
        plan: The plan.
        genotypes: The genotypes of the searched networks.
        full: Whether the published width is wanted; a searched network has none.
    """

    def of(name: str, filters: int) -> Sized:
        options = {**_options(name, genotypes), "filters": filters}
        with torch.device("meta"):
            made = network_for_plan(recipe_network(name), plan, options)
        cost = profile(made, len(plan.channels), plan.patch_size)
        return Sized(options, filters, cost.parameters, cost.macs)

    if full and network in _WIDTHS:
        return of(network, _WIDTHS[network])
    unet = of("unet-2d", _WIDTHS["unet-2d"] if full else _CPU_UNET)
    if network == "unet-2d":
        return unet
    wanted = unet.macs * PAPER[network][1] / PAPER["unet-2d"][1]
    return nearest(partial(of, network), _macs, wanted, _LEAST.get(network, 1))


def published(genotypes: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, Cost]]]:
    """Return filters and cost of every network for one slice of 256 x 256 with one channel and two classes.

    Args:
        genotypes: The genotypes of the searched networks, of each search.

    Returns:
        One entry by network; for a searched network one of each search, at the width whose parameters come nearest to
        the paper's.
    """
    found = {name: [_published(name, {}, filters)] for name, filters in _WIDTHS.items()}
    for name in SEARCHED:
        wanted = 1e6 * PAPER[name][0]
        found[name] = [nearest(partial(_published, name, of), _parameters, wanted) for of in genotypes]
    return found


def nearest(of: Callable[[int], T], value: Callable[[T], float], wanted: float, least: int = 1, most: int = _MOST) -> T:
    """Return what has the value nearest to the wanted one; the value grows with the number of filters."""
    low, high = least, most
    while low < high:
        middle = (low + high) // 2
        if value(of(middle)) < wanted:
            low = middle + 1
        else:
            high = middle
    around = [of(filters) for filters in (low - 1, low) if filters >= least]
    return min(around, key=lambda one: abs(value(one) - wanted))


def _published(name: str, genotypes: Mapping[str, Any], filters: int) -> tuple[int, Cost]:
    return filters, _published_cost(name, filters, genotypes)


def _parameters(of: tuple[int, Cost]) -> float:
    return of[1].parameters


def _macs(of: Sized) -> float:
    return of.macs


def recipe_network(name: str) -> str:
    """Return the name in the registry of networks."""
    return "searched" if name in SEARCHED else name


def _options(name: str, genotypes: Mapping[str, Any]) -> dict[str, Any]:
    return {"genotype": genotypes[name]} if name in SEARCHED else {}


def _published_cost(name: str, filters: int, genotypes: Mapping[str, Any]) -> Cost:
    with torch.device("meta"):
        if name == "nas-unet":  # with the stem's step and seven cells down, one more than a recipe may have
            return profile(NasUNet(_CHANNELS, _OUTPUTS, ((2, 2),) * 8, filters), _CHANNELS, _SLICE[:2])
        made = create_network(recipe_network(name), _CHANNELS, _OUTPUTS, filters=filters, **_options(name, genotypes))
    return profile(made, _CHANNELS, _SLICE)
