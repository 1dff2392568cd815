"""The networks of the MS-NAS paper's comparison, as wide as its ratios of multiply-adds ask for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from voxward.architecture_search.cost import Cost, profile
from voxward.core.genotype import Genotype
from voxward.core.plan import Plan
from voxward.core.recipe import Choice
from voxward.core.structure import to_data
from voxward.nets.registry import network_for_plan

PATHS = {"msnas-3": 3, "msnas-4": 4, "msnas-5": 5}
LAST = "msnas-5"
PAPER = {
    # parameters (M), multiply-adds (G), and mIoU and DSC on Sliver07 and Promise12 (table 1)
    "unet-2d": (13.39, 31.01, (95.3, 97.6), (65.4, 79.1)),
    "nas-unet": (12.45, 28.43, (96.0, 98.0), (65.9, 79.4)),
    "autodeeplab": (14.45, 33.06, (95.2, 97.5), (64.2, 78.2)),
    "msnas-3": (10.52, 21.33, (96.7, 98.3), (70.1, 82.4)),
    "msnas-4": (10.52, 21.33, (97.1, 98.4), (70.8, 82.9)),
    "msnas-5": (11.51, 23.31, (97.2, 98.8), (70.8, 82.9)),
}
WIDTHS: Mapping[str, Sequence[int]] = {
    "nas-unet": range(16, 400), "autodeeplab": range(8, 800), "msnas-3": range(4, 200, 4),
}  # fmt: skip


@dataclass(frozen=True)
class Sized:
    """A network of a certain width, and what it costs for one slice."""

    name: str
    choice: Choice
    cost: Cost


def sizes_of(filters: int, plan: Plan, genotypes: Mapping[str, Genotype]) -> dict[str, Sized]:
    """All networks, with multiply-adds that are to UNet's as in the paper."""
    found = {"unet-2d": _sized("unet-2d", filters, plan, genotypes)}
    for name, widths in WIDTHS.items():
        target = found["unet-2d"].cost.macs * PAPER[name][1] / PAPER["unet-2d"][1]

        def macs(width: int, name: str = name) -> int:
            return _sized(name, width, plan, genotypes).cost.macs

        after = bisect_left(widths, target, key=macs)
        near = widths[max(0, after - 1) : after + 1]
        found[name] = _sized(name, min(near, key=lambda one: abs(macs(one) - target)), plan, genotypes)
    width = found["msnas-3"].choice.options["filters"]
    return found | {name: _sized(name, width, plan, genotypes) for name in PATHS}


def _sized(name: str, filters: int, plan: Plan, genotypes: Mapping[str, Genotype]) -> Sized:
    choice = Choice(name, {"filters": filters})
    if name == "autodeeplab":  # in quarters, because a whole filter more is a large step; the stem as in the smallest
        stem = 4 * max(1, round(filters / 4 * 64 / 20 / 4))
        choice = Choice(name, {"filters": round(filters / 4), "stem": stem})
    elif name in PATHS:
        choice = Choice("searched", {"filters": filters, "norm": "batch", "genotype": to_data(genotypes[name])})
    with torch.device("meta"):
        network = network_for_plan(choice.name, plan, choice.options)
    return Sized(name, choice, profile(network, len(plan.channels), plan.patch_size))
