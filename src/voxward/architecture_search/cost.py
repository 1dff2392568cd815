"""The cost of a network: counted exactly, or expected over the networks that a super-net's weights describe."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from voxward.architecture_search.paths import visit
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.core.errors import UserError
from voxward.core.genotype import CELL_KINDS, OPERATION_NAMES, Edge, EdgeKind
from voxward.nets.layout import Layout

MEASURES = ("parameters", "macs", "activations")
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_UNCHANGED = (nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.ReLU)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    Args:
        parameters: The number of its parameters.
        macs: The multiply-adds of its convolutions for one image; papers print them as FLOPs.
        activations: How many numbers the outputs of all its layers hold for one image, which a training step may have
            to keep. Sums and concatenations are not counted. Times 4, it is the number of bytes in float32.
    """

    parameters: int
    macs: int
    activations: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def profile(net: nn.Module, channels: int, size: tuple[int, ...]) -> Cost:
    """Count the cost of a network on one image. Nothing is computed, and the network is left as it is.

    Args:
        net: The network.
        channels: The number of channels of the image.
        size: The size of the image in voxels.
    """
    twin = copy.deepcopy(net).to("meta").eval()
    macs: list[int] = []
    activations: list[int] = []

    def count(module: nn.Module, given: Any, out: Tensor) -> None:
        activations.append(out.numel())
        if isinstance(module, _CONVOLUTIONS):
            macs.append(out.numel() * module.weight[0].numel())
        elif isinstance(module, _TRANSPOSED):
            macs.append(given[0].numel() * module.weight[0].numel())

    for module in twin.modules():
        if isinstance(module, _UNCHANGED):  # only the size counts, and their arithmetic takes longest
            layer: Any = module
            layer.forward = _same
        if not list(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(count)
    with torch.no_grad():
        twin(torch.empty(1, channels, *size, device="meta"))
    return Cost(sum(parameter.numel() for parameter in net.parameters()), sum(macs), sum(activations))


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, eq=False)
class CostTable:
    """The costs of the parts that the networks of a space are made of, in float64; the last axis is MEASURES.

    Args:
        space: The grid.
        fixed: The cost (3,) of stem and head.
        entries: The cost (edges, 3) of the beginning of the cell of each edge. Skips cost nothing.
        operations: The cost (edges, operations, 3) of one block of the cell of each edge.
    """

    space: MacroSpace
    fixed: Tensor
    entries: Tensor
    operations: Tensor


def cost_table(
    space: MacroSpace, layout: Layout, in_channels: int, out_channels: int, size: tuple[int, ...]
) -> CostTable:
    """Count the cost of every part of the networks of a space.

    Args:
        space: The grid.
        layout: The sizes of the network.
        in_channels: The number of channels of the image.
        out_channels: The number of outputs.
        size: The size of the image in voxels.

    Raises:
        UserError: The size is not divisible by the total stride.
    """
    stride = layout.total_stride(space.scales - 1)
    if len(size) != len(stride) or any(length % step for length, step in zip(size, stride, strict=True)):
        raise UserError(f"size must be divisible by {stride}, got {size}")
    sizes = [_size_at(layout, scale, size) for scale in range(space.scales)]
    with torch.device("meta"):
        stem, head = layout.stem(in_channels), layout.head(out_channels)
        fixed = profile(stem, in_channels, size) + profile(head, layout.channels(0), sizes[0])
        entries = {_alike(edge): _entry_cost(layout, edge, sizes) for edge in _one_of_each(space)}
        blocks = [_operation_costs(layout, scale, sizes[scale]) for scale in range(space.scales)]
    none = torch.zeros(len(OPERATION_NAMES), len(MEASURES), dtype=torch.float64)
    return CostTable(
        space,
        _row(fixed),
        torch.stack([_row(entries.get(_alike(edge), Cost(0, 0, 0))) for edge in space.edges]),
        torch.stack([blocks[edge.scale] if edge.kind in CELL_KINDS else none for edge in space.edges]),
    )


def expected_cost(net: SuperNet, table: CostTable, paths: int = 1) -> Tensor:
    """Return the expected cost of a network that is drawn from the weights of a super-net.

    For one path it is exact, if the input and the operation of each block are drawn by the product of their weights.
    For the union of several paths, these are taken as drawn independently: an edge is used with probability
    1 - (1 - P)^paths.

    Args:
        net: The super-net.
        table: The costs of the parts of its space.
        paths: The number of paths.

    Returns:
        The cost (3,) in the order of MEASURES; it can be differentiated in alpha, p and beta.

    Raises:
        UserError: The table is of another space.
    """
    if net.space != table.space:
        raise UserError(f"table must be of the super-net's space {net.space}, got {table.space}")
    cells = {kind: net.cell_weights(kind) for kind in CELL_KINDS}
    used = 1 - (1 - visit(net.space, net.edge_weights())) ** paths
    per_edge = edge_costs(table, cells)
    return table.fixed.to(per_edge) + used.to(per_edge) @ per_edge


def edge_costs(table: CostTable, cells: Mapping[EdgeKind, tuple[Tensor, Tensor]]) -> Tensor:
    """Return the expected cost (edges, 3) of the cell of each edge.

    Args:
        table: The costs of the parts.
        cells: The weights (operations, inputs) of each kind of cell.
    """
    # Over one block the weights sum to 1, over the cell to its number of blocks: (operations,) expected uses.
    uses = {kind: operations.T @ inputs for kind, (operations, inputs) in cells.items()}
    rows = []
    for n, edge in enumerate(table.space.edges):
        entry = table.entries[n]
        rows.append(entry + uses[edge.kind].to(entry) @ table.operations[n] if edge.kind in uses else entry)
    return torch.stack(rows)


def _size_at(layout: Layout, scale: int, size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length // step for length, step in zip(size, layout.total_stride(scale), strict=True))


def _alike(edge: Edge) -> tuple[int, EdgeKind]:
    return edge.scale, edge.kind


def _one_of_each(space: MacroSpace) -> list[Edge]:
    return list({_alike(edge): edge for edge in space.edges if edge.kind in CELL_KINDS}.values())


def _entry_cost(layout: Layout, edge: Edge, sizes: list[tuple[int, ...]]) -> Cost:
    scale = edge.source[1]
    return profile(layout.entry(edge), layout.channels(scale), sizes[scale])


def _operation_costs(layout: Layout, scale: int, size: tuple[int, ...]) -> Tensor:
    width = layout.width(scale)
    return torch.stack([_row(profile(layout.operation(name, width), width, size)) for name in OPERATION_NAMES])


def _row(cost: Cost) -> Tensor:
    return torch.tensor(astuple(cost), dtype=torch.float64, device="cpu")
