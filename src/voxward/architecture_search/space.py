"""The search space of MS-NAS (Yan et al., MICCAI 2020): its nodes, its edges, and how many paths it has."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from voxward.core.errors import UserError
from voxward.core.genotype import (
    EDGE_KINDS,
    Edge,
    Node,
    grid_problems,
    has_node,
)

SOURCE: Node = (0, 0)


@dataclass(frozen=True)
class MacroSpace:
    """The grid of nodes (layer, scale) and every edge between them.

    Args:
        layers: The number of layers between the stem and the head, at least 1.
        scales: The number of resolutions, at least 1.

    Raises:
        UserError: There is no such grid.
    """

    layers: int = 10
    scales: int = 5

    def __post_init__(self) -> None:
        problems = grid_problems(self.layers, self.scales)
        if problems:
            raise UserError("; ".join(problems))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes by layer, then by scale, so that the source of an edge comes before its target."""
        every = ((layer, scale) for layer in range(self.layers + 1) for scale in range(self.scales))
        return tuple(node for node in every if has_node(self.layers, self.scales, node))

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Return the edges by target, then by kind, so that the edges into one node stand together."""
        every = (Edge(layer, scale, kind) for layer, scale in self.nodes[1:] for kind in EDGE_KINDS)
        return tuple(sorted(edge for edge in every if has_node(self.layers, self.scales, edge.source)))

    @property
    def sink(self) -> Node:
        """Return the node that the head reads."""
        return self.layers, 0

    def into(self, node: Node) -> range:
        """Return the positions in `edges` of the edges into a node."""
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
        """Return how many paths from the stem reach each node."""
        reached = {SOURCE: 1}
        for node in self.nodes[1:]:
            reached[node] = sum(reached[self.edges[n].source] for n in self.into(node))
        return reached
