"""Searched architectures as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from voxward.architecture_search.cost import Cost
from voxward.core.genotype import Genotype
from voxward.core.types import Size3
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import number_text


@dataclass(frozen=True)
class Architecture:
    """A network that a search found.

    Attributes:
        name: Its name.
        genotype: What it is made of.
        cost: What it costs for one patch of the plan.
        dice: Its mean foreground Dice with the weights of the super-net; None where that was not measured.
    """

    name: str
    genotype: Genotype
    cost: Cost
    dice: float | None


def architectures_table(found: Sequence[Architecture], patch: Size3 | None = None) -> Table:
    """What each network is made of and what it costs: a row per network.

    Args:
        found: The networks.
        patch: The plan's patch size in voxels, for which the costs are; None leaves the caption out.
    """
    names = ("paths", "edges", "coarsest", "parameters M", "GMACs", "activations M", "inherited Dice")
    return Table(
        (Column("network", "left"), *map(Column, names)), tuple(Row(_cells(one)) for one in found),
        caption="" if patch is None else _caption(patch),
        fields=("network", "paths", "edges", "coarsest", "parameters", "macs", "activations", "inherited_dice"),
        data=tuple(_figures(one) for one in found),
    )  # fmt: skip


def _caption(patch: Size3) -> str:
    return (
        f"For one patch of {' x '.join(map(str, patch))}; coarsest: scale in use, from 0; inherited Dice: "
        "mean over the foreground classes\nwith the super-net's weights, on the half of the cases that taught the "
        "architecture. `untrained`: what the super-net\ndecodes to before it has learnt anything."
    )


def _cells(architecture: Architecture) -> tuple[str, ...]:
    genotype, cost = architecture.genotype, architecture.cost
    return (
        architecture.name,
        str(len(genotype.paths)),
        str(len(genotype.edges)),
        str(_coarsest(genotype)),
        f"{cost.parameters / 1e6:.3f}",
        f"{cost.macs / 1e9:.3f}",
        f"{cost.activations / 1e6:.2f}",
        number_text(architecture.dice),
    )


def _figures(architecture: Architecture) -> tuple[Value, ...]:
    genotype, cost = architecture.genotype, architecture.cost
    made_of = (len(genotype.paths), len(genotype.edges), _coarsest(genotype))
    return (architecture.name, *made_of, cost.parameters, cost.macs, cost.activations, architecture.dice)


def _coarsest(genotype: Genotype) -> int:
    return max(edge.scale for edge in genotype.edges)
