"""What an architecture search decides about a multi-scale network, as a value that is stored as JSON.

The network is a grid of nodes (layer, scale). Scale 0 has the stem's resolution, and each following scale is coarser by
one stride. A node exists where scale <= min(layer, layers - layer, scales - 1), so that a path starts and ends at scale
0 (MS-NAS, Yan et al., MICCAI 2020, figure 1a). An edge leads from one layer to the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from voxward.core.document import with_format
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.plan import load_json
from voxward.core.structure import to_data

Node = tuple[int, int]  # (layer, scale)
EdgeKind = Literal["down", "same", "up", "skip"]
OperationName = Literal["sep3", "sep5", "dil3", "avg3", "skip"]
PathKinds = tuple[EdgeKind, ...]

EDGE_KINDS: tuple[EdgeKind, ...] = get_args(EdgeKind)
CELL_KINDS: tuple[EdgeKind, ...] = EDGE_KINDS[:3]
OPERATION_NAMES: tuple[OperationName, ...] = get_args(OperationName)

_RISE = {"down": 1, "same": 0, "up": -1, "skip": 0}  # the target's scale minus the source's
_SUM_TOLERANCE = 1e-4


@dataclass(frozen=True, order=True)
class Edge:
    """An edge into a node of the grid: a cell, or a skip that passes its input on.

    Attributes:
        layer: The layer of the node that the edge enters, from 1.
        scale: The scale of that node, 0 is the finest.
        kind: `down`, `same` or `up`: a cell that lowers, keeps or raises the resolution. `skip`: the identity.
    """

    layer: int
    scale: int
    kind: EdgeKind

    @property
    def source(self) -> Node:
        """Return the node (layer, scale) that the edge leaves."""
        return self.layer - 1, self.scale - _RISE[self.kind]

    @property
    def target(self) -> Node:
        """Return the node (layer, scale) that the edge enters."""
        return self.layer, self.scale

    @property
    def name(self) -> str:
        """Return the edge's name among a network's modules, such as `3-1-down`."""
        return f"{self.layer}-{self.scale}-{self.kind}"


@dataclass(frozen=True)
class Gene:
    """One block of a cell.

    Attributes:
        input: What the operation is applied to: 0 for the cell's input, n for the output of the n-th block.
        operation: The operation's name (see `nets.layout.OPERATIONS`).
    """

    input: int
    operation: OperationName


@dataclass(frozen=True)
class CellGenes:
    """The blocks of the three kinds of cell; all cells of one kind are built alike.

    Attributes:
        down: The blocks of cells that lower the resolution.
        same: The blocks of cells that keep it.
        up: The blocks of cells that raise it.
    """

    down: tuple[Gene, ...]
    same: tuple[Gene, ...]
    up: tuple[Gene, ...]

    def of(self, kind: EdgeKind) -> tuple[Gene, ...]:
        """Return the blocks of the cell on an edge.

        Args:
            kind: The kind of the edge; a `skip` has no blocks.
        """
        return {"down": self.down, "same": self.same, "up": self.up, "skip": ()}[kind]


@dataclass(frozen=True)
class Genotype:
    """A network that an architecture search has found.

    Attributes:
        dimensions: 2 for a network on slices, 3 for one on volumes.
        layers: Layers of the grid.
        scales: Scales of the grid.
        cells: The blocks of the cells.
        paths: Paths from the stem to the head, each as the kinds of its edges, one per layer. The network is their
            union.
        weights: A weight per edge, in the order of `edges`; the weights of the edges into one node sum to 1. None: a
            node is the plain sum of what arrives.

    Raises:
        UserError: The values do not describe a network; the message lists every problem.
    """

    dimensions: Literal[2, 3]
    layers: int
    scales: int
    cells: CellGenes
    paths: tuple[PathKinds, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        found = [] if self.dimensions in (2, 3) else [f"dimensions must be 2 or 3, got {self.dimensions}"]
        found += grid_problems(self.layers, self.scales) + _cell_problems(self.cells)
        found += [] if found else self._path_problems()
        found += [] if found else self._weight_problems()
        if found:
            raise UserError("; ".join(found))

    @property
    def blocks(self) -> int:
        """Return the number of blocks in a cell."""
        return len(self.cells.same)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Return the edges on any path, sorted by layer, scale and kind."""
        return tuple(sorted({edge for path in self.paths for edge in path_edges(path)}))

    def save(self, path: Path) -> None:
        """Write the genotype as JSON.

        Args:
            path: The file, which is replaced if it exists.
        """
        write_json(path, with_format(to_data(self)))

    def _path_problems(self) -> list[str]:
        found = [] if self.paths else ["paths must hold at least one path"]
        if len(set(self.paths)) < len(self.paths):
            found.append("paths must differ from each other")
        return found + [problem for n, path in enumerate(self.paths) for problem in self._problems_of(n, path)]

    def _problems_of(self, n: int, path: PathKinds) -> list[str]:
        if len(path) != self.layers:
            return [f"paths[{n}] must have {self.layers} edges, one per layer, got {len(path)}"]
        unknown = [kind for kind in path if kind not in EDGE_KINDS]
        if unknown:
            return [f"paths[{n}] must be made of {', '.join(EDGE_KINDS)}, got {unknown[0]!r}"]
        outside = [edge.target for edge in path_edges(path) if not has_node(self.layers, self.scales, edge.target)]
        return [f"paths[{n}] leaves the grid at (layer, scale) {outside[0]}"] if outside else []

    def _weight_problems(self) -> list[str]:
        if self.weights is None:
            return []
        if len(self.weights) != len(self.edges):
            return [f"weights must hold {len(self.edges)} numbers, one per edge, got {len(self.weights)}"]
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights):
            return [f"weights must be finite and not negative, got {self.weights}"]
        totals: dict[Node, float] = {}
        for edge, weight in zip(self.edges, self.weights, strict=True):
            totals[edge.target] = totals.get(edge.target, 0.0) + weight
        return [
            f"weights must sum to 1 over the edges into a node, got {total:g} at (layer, scale) {node}"
            for node, total in totals.items()
            if abs(total - 1) > _SUM_TOLERANCE
        ]


def path_edges(path: Iterable[EdgeKind]) -> tuple[Edge, ...]:
    """Return the edges of a path that starts at node (0, 0).

    Args:
        path: The kinds of its edges, one per layer.
    """
    edges, scale = [], 0
    for layer, kind in enumerate(path, 1):
        scale += _RISE[kind]
        edges.append(Edge(layer, scale, kind))
    return tuple(edges)


def has_node(layers: int, scales: int, node: Node) -> bool:
    """Return whether a grid has a node.

    Args:
        layers: Layers of the grid.
        scales: Scales of the grid.
        node: The node (layer, scale).
    """
    layer, scale = node
    return 0 <= scale <= min(layer, layers - layer, scales - 1)


def grid_problems(layers: int, scales: int) -> list[str]:
    """Return what is wrong with a grid's size, one sentence per problem; an empty list if nothing is.

    Args:
        layers: Layers of the grid, at least 1.
        scales: Scales of the grid, from 1 to layers // 2 + 1.
    """
    found = [] if layers >= 1 else [f"layers must be at least 1, got {layers}"]
    most = max(layers, 0) // 2 + 1
    if not 1 <= scales <= most:
        found.append(f"scales must be between 1 and {most}, which {layers} layers can reach, got {scales}")
    return found


def load_genotype(path: Path) -> Genotype:
    """Read a genotype from a JSON file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file does not describe a network; the message lists every problem.
    """
    return load_json(Genotype, path)


def _cell_problems(cells: CellGenes) -> list[str]:
    found = []
    counts = {kind: len(cells.of(kind)) for kind in CELL_KINDS}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        found.append(f"cells must have the same number of blocks, at least 1, got {counts}")
    for kind in CELL_KINDS:
        for block, gene in enumerate(cells.of(kind)):
            if not 0 <= gene.input <= block:
                found.append(f"cells.{kind}[{block}].input must be between 0 and {block}, got {gene.input}")
            if gene.operation not in OPERATION_NAMES:
                legal = ", ".join(OPERATION_NAMES)
                found.append(f"cells.{kind}[{block}].operation must be one of {legal}, got {gene.operation!r}")
    return found
