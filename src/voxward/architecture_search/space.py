"""The search space of MS-NAS (Yan et al., MICCAI 2020): which nodes and edges there are, and how many networks."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from voxward.core.errors import UserError
from voxward.core.genotype import (
    CELL_KINDS,
    EDGE_KINDS,
    OPERATION_NAMES,
    Edge,
    Node,
    grid_problems,
    has_node,
)

SOURCE: Node = (0, 0)


@dataclass(frozen=True)
class Counts:
    """Sizes of the search space.

    cells: edges with a cell. layer_choices: one edge per layer, whether they connect or not; that is what the paper
    calls paths (3.89e9). cell_choices: one input and one operation per block, three kinds of cell (4.22e8).
    choices: their product (1.64e18 in the paper). paths: those that connect the stem with the head.
    networks: single-path networks, paths times cell_choices.
    """

    nodes: int
    edges: int
    cells: int
    layer_choices: int
    cell_choices: int
    choices: int
    paths: int
    networks: int


@dataclass(frozen=True)
class MacroSpace:
    """The grid of nodes (layer, scale) and every edge between them. Raises ValueError for an impossible grid."""

    layers: int = 10
    scales: int = 5

    def __post_init__(self) -> None:
        problems = grid_problems(self.layers, self.scales)
        if problems:
            raise UserError("; ".join(problems))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """By layer, then scale: the source of an edge comes before its target."""
        every = ((layer, scale) for layer in range(self.layers + 1) for scale in range(self.scales))
        return tuple(node for node in every if has_node(self.layers, self.scales, node))

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """By target and kind, so that the edges into one node stand together."""
        every = (Edge(layer, scale, kind) for layer, scale in self.nodes[1:] for kind in EDGE_KINDS)
        return tuple(sorted(edge for edge in every if has_node(self.layers, self.scales, edge.source)))

    @property
    def sink(self) -> Node:
        """The node that the head reads."""
        return self.layers, 0

    def into(self, node: Node) -> range:
        """Positions in `edges` of those into `node`."""
        return self._into[node]

    @cached_property
    def _into(self) -> dict[Node, range]:
        entering, start = Counter(edge.target for edge in self.edges), 0
        ranges = {}
        for node in self.nodes:
            ranges[node] = range(start, start + entering[node])
            start += entering[node]
        return ranges

    @cached_property
    def paths_to(self) -> dict[Node, int]:
        """How many paths from the stem reach each node."""
        reached = {SOURCE: 1}
        for node in self.nodes[1:]:
            reached[node] = sum(reached[self.edges[n].source] for n in self.into(node))
        return reached

    def counts(self, blocks: int = 3) -> Counts:
        """Sizes of the space, for cells of `blocks` blocks."""
        per_layer = Counter(edge.layer for edge in self.edges)
        layer_choices = math.prod(per_layer.values())
        per_cell = math.factorial(blocks) * len(OPERATION_NAMES) ** blocks
        cell_choices = per_cell ** len(CELL_KINDS)
        paths = self.paths_to[self.sink]
        return Counts(
            nodes=len(self.nodes),
            edges=len(self.edges),
            cells=sum(edge.kind != "skip" for edge in self.edges),
            layer_choices=layer_choices,
            cell_choices=cell_choices,
            choices=layer_choices * cell_choices,
            paths=paths,
            networks=paths * cell_choices,
        )
