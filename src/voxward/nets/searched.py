"""x."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.genotype import CELL_KINDS, Edge, Gene, Genotype, Node, load_genotype
from voxward.core.structure import from_data, to_data
from voxward.nets.lattice import check_input
from voxward.nets.layout import Layout, Stride, stage_strides
from voxward.nets.slicewise import Slicewise


class DecodedCell(nn.Module):
    """One operation on one earlier output per block; the blocks' outputs are concatenated."""

    def __init__(self, layout: Layout, edge: Edge, genes: Sequence[Gene]) -> None:
        super().__init__()
        self.entry = layout.entry(edge)
        self.genes = tuple(genes)
        self.operations = nn.ModuleList(layout.operation(gene.operation, layout.width(edge.scale)) for gene in genes)

    def forward(self, x: Tensor) -> Tensor:
        """The source node's (b, c, *size) -> the target node's."""
        states = [self.entry(x)]
        for gene, operation in zip(self.genes, self.operations, strict=True):
            states.append(operation(states[gene.input]))
        return torch.cat(states[1:], 1)


def propagate(edges: Iterable[Edge], x: Tensor, arrive: Callable[[Edge, Tensor], Tensor]) -> Tensor:
    """Walk the grid from node (0, 0) with value `x`: a node is the sum of `arrive(edge, source's value)` (equation 3).

    edges: by layer, all on paths from the stem to the head. Returns the last node. Two layers are alive at a time.
    """
    nodes: dict[Node, Tensor] = {(0, 0): x}
    for _, layer in groupby(edges, key=lambda edge: edge.layer):
        following: dict[Node, Tensor] = {}
        for edge in layer:
            value = arrive(edge, nodes[edge.source])
            following[edge.target] = following[edge.target] + value if edge.target in following else value
        nodes = following
    (last,) = nodes.values()
    return last


class SearchedNet(nn.Module):
    """The network of a genotype.

    strides: the stem's, then one from each scale to the next, per axis; default: `stage_strides`. Images must be
    divisible by their product down to the coarsest scale in use. filters: of a block at scale 0. norm: `batch` or
    `instance`. Weights start as PyTorch's defaults leave them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        genotype: Genotype,
        strides: Sequence[Sequence[int]] | None = None,
        filters: int = 32,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.genotype = genotype
        self.in_channels = in_channels
        self.layout = layout = Layout(
            self.genotype.dimensions, _strides_of(self.genotype, strides), filters, self.genotype.blocks, norm
        )
        self.total_stride = layout.total_stride(max(edge.scale for edge in self.genotype.edges))
        self.stem = layout.stem(in_channels)
        self.cells = nn.ModuleDict(
            {
                edge.name: DecodedCell(layout, edge, self.genotype.cells.of(edge.kind))
                for edge in self.genotype.edges
                if edge.kind in CELL_KINDS
            }
        )
        self.head = layout.head(out_channels)
        weights = self.genotype.weights or (1.0,) * len(self.genotype.edges)
        self._weights = {edge.name: weight for edge, weight in zip(self.genotype.edges, weights, strict=True)}

    def forward(self, images: Tensor) -> Tensor:
        """(b, in_channels, *size) -> logits (b, out_channels, *size)."""
        if images.ndim != self.layout.dimensions + 2:
            raise UserError(
                f"the network takes {self.layout.dimensions}D images (b, c, *size), got shape {tuple(images.shape)}"
            )
        check_input(images, self.in_channels, self.total_stride)
        logits: Tensor = self.head(propagate(self.genotype.edges, self.stem(images), self._arrive))
        return logits

    def _arrive(self, edge: Edge, x: Tensor) -> Tensor:
        value = self.cells[edge.name](x) if edge.name in self.cells else x
        weight = self._weights[edge.name]
        return value if weight == 1 else value * weight


def _strides_of(genotype: Genotype, strides: Sequence[Sequence[int]] | None) -> tuple[Stride, ...]:
    if strides is None:
        return stage_strides(genotype.dimensions, genotype.scales)
    if len(strides) != genotype.scales:
        raise UserError(f"strides must be {genotype.scales} (the stem's and one between scales), got {len(strides)}")
    return tuple(tuple(step) for step in strides)


def searched(
    in_channels: int,
    out_channels: int,
    genotype: Genotype | Mapping[str, Any] | str | Path,
    strides: Sequence[Sequence[int]] | None = None,
    flat_stem: bool | None = None,
    filters: int = 32,
    norm: str = "batch",
) -> nn.Module:
    """The network of a genotype for volumes (b, c, d, h, w); one in 2D takes them slice by slice across the last axis.

    genotype: itself, the plain data of its JSON, or that file. strides, flat_stem: see `stage_strides`; filters, norm:
    see `SearchedNet`. Raises ValueError or FileNotFoundError for a genotype that cannot be read.
    """
    if isinstance(genotype, str | Path):
        genotype = load_genotype(Path(genotype))
    elif isinstance(genotype, Mapping):
        genotype = from_data(Genotype, genotype, "genotype")
    stages = stage_strides(genotype.dimensions, genotype.scales, strides, flat_stem)
    network = SearchedNet(in_channels, out_channels, genotype, stages, filters, norm)
    return network if genotype.dimensions == 3 else Slicewise(network)


def embed_genotype(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `searched` with the file of a genotype replaced by what it holds."""
    genotype = options.get("genotype")
    embedded = to_data(load_genotype(Path(genotype))) if isinstance(genotype, str | Path) else genotype
    return {**options} if genotype is None else {**options, "genotype": embedded}
