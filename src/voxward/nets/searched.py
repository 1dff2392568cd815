"""The network that a Genotype describes, and how values flow through its grid.

Source: MS-NAS (Yan et al., MICCAI 2020), sections 2.1 and 2.2; 2D as published, or 3D with a stride per axis.
"""

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
from voxward.nets.inputs import check_input
from voxward.nets.layout import Layout, Stride, stage_strides
from voxward.nets.slicewise import Slicewise


class DecodedCell(nn.Module):
    """A cell: each block is one operation on one earlier output, and the blocks' outputs are concatenated.

    Args:
        layout: The network's sizes.
        edge: The edge that the cell lies on.
        genes: The blocks.
        residual: Whether the projected input is added to the output of every block.
    """

    def __init__(self, layout: Layout, edge: Edge, genes: Sequence[Gene], residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.entry = layout.entry(edge)
        self.genes = tuple(genes)
        self.operations = nn.ModuleList(layout.operation(gene.operation, layout.width(edge.scale)) for gene in genes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the target node's contribution from the source node's value (b, c, *size)."""
        states = [self.entry(x)]
        for gene, operation in zip(self.genes, self.operations, strict=True):
            states.append(operation(states[gene.input]))
        if self.residual:
            return torch.cat([state + states[0] for state in states[1:]], 1)
        return torch.cat(states[1:], 1)


def propagate(edges: Iterable[Edge], x: Tensor, arrive: Callable[[Edge, Tensor], Tensor]) -> Tensor:
    """Walk the grid from node (0, 0); a node is the sum of what arrives over its edges (equation 3).

    Only two layers are kept at a time.

    Args:
        edges: The edges, sorted by layer, all on paths from the stem to the head.
        x: The value of node (0, 0).
        arrive: From an edge and the value of its source node to what arrives at its target node.

    Returns:
        The value of the last node.
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
    """The network of a genotype. Weights start as PyTorch's defaults leave them.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        genotype: The genotype.
        strides: The stem's stride per axis, then one from each scale to the next; None: those of `stage_strides`. The
            size of an image must be divisible by their product down to the coarsest scale in use.
        filters: Channels of a block at scale 0.
        norm: `batch` or `instance`.
        residual: Whether the projected input of a cell is added to the output of each of its blocks.

    Raises:
        UserError: An option is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        genotype: Genotype,
        strides: Sequence[Sequence[int]] | None = None,
        filters: int = 32,
        norm: str = "batch",
        residual: bool = False,
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
                edge.name: DecodedCell(layout, edge, self.genotype.cells.of(edge.kind), residual)
                for edge in self.genotype.edges
                if edge.kind in CELL_KINDS
            }
        )
        self.head = layout.head(out_channels)
        weights = self.genotype.weights or (1.0,) * len(self.genotype.edges)
        self._weights = {edge.name: weight for edge, weight in zip(self.genotype.edges, weights, strict=True)}

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of a batch.

        Args:
            images: (b, in_channels, *size), with as many spatial axes as the genotype has dimensions.

        Returns:
            Logits (b, out_channels, *size).

        Raises:
            UserError: The axes or the channels do not fit, or a size is not divisible by `total_stride`.
        """
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
        raise UserError(f"strides must be {genotype.scales} (the stem's, and one between scales), got {len(strides)}")
    return tuple(tuple(step) for step in strides)


def searched(
    in_channels: int,
    out_channels: int,
    genotype: Genotype | Mapping[str, Any] | str | Path,
    strides: Sequence[Sequence[int]] | None = None,
    flat_stem: bool | None = None,
    filters: int = 32,
    norm: str = "batch",
    residual: bool = False,
) -> nn.Module:
    """Create the network of a genotype for volumes; a 2D one takes them slice by slice across the last axis.

    Args:
        in_channels: Number of image channels.
        out_channels: Number of logits per voxel.
        genotype: A genotype, the plain data of its JSON, or the path of that file.
        strides: Strides of downsampling along the volume's three axes, the finest first (see `stage_strides`).
        flat_stem: Whether the stem keeps the resolution (see `stage_strides`).
        filters: Channels of a block at scale 0.
        norm: `batch` or `instance`.
        residual: Whether the projected input of a cell is added to the output of each of its blocks.

    Returns:
        A network from (b, in_channels, d, h, w) to logits (b, out_channels, d, h, w).

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The genotype cannot be read, or an option is out of range.
    """
    if isinstance(genotype, str | Path):
        genotype = load_genotype(Path(genotype))
    elif isinstance(genotype, Mapping):
        genotype = from_data(Genotype, genotype, "genotype")
    stages = stage_strides(genotype.dimensions, genotype.scales, strides, flat_stem)
    network = SearchedNet(in_channels, out_channels, genotype, stages, filters, norm, residual)
    return network if genotype.dimensions == 3 else Slicewise(network)


def embed_genotype(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `searched` with a genotype's file replaced by its contents.

    Args:
        options: Options by name.
    """
    genotype = options.get("genotype")
    embedded = to_data(load_genotype(Path(genotype))) if isinstance(genotype, str | Path) else genotype
    return {**options} if genotype is None else {**options, "genotype": embedded}
