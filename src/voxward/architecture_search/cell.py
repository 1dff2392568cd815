"""A cell that holds every choice at once (MS-NAS, equations 1 and 2), on a part of its channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.genotype import OPERATION_NAMES, Edge, Gene, OperationName
from voxward.nets.layout import Layout


def cell_inputs(blocks: int) -> tuple[tuple[int, int], ...]:
    """Return every pair (block, input) of a cell.

    Block 1 may read input 0, which is the cell's, block 2 may read inputs 0 and 1, and so on.
    """
    return tuple((block, given) for block in range(1, blocks + 1) for given in range(block))


def block_slice(block: int) -> slice:
    """Return the positions in `cell_inputs` of the inputs of a block, which is counted from 1."""
    return slice(block * (block - 1) // 2, block * (block + 1) // 2)


def normalise_inputs(scores: Tensor, blocks: int) -> Tensor:
    """Return the softmax of the scores (inputs,) over the inputs of each block (equation 1)."""
    return torch.cat([scores[block_slice(block)].softmax(0) for block in range(1, blocks + 1)])


def best_genes(operations: Tensor, inputs: Tensor, blocks: int) -> tuple[Gene, ...]:
    """Return, for each block, the input and the operation with the largest product of weights (section 2.2).

    Args:
        operations: The weights (inputs, operations) of the operations, normalised.
        inputs: The weights (inputs,) of the inputs, normalised.
        blocks: The number of blocks.

    Returns:
        One gene per block; among equal products, the first one.
    """
    product = (operations * inputs[:, None]).detach().cpu()
    genes = []
    for block in range(1, blocks + 1):
        given, name = divmod(int(product[block_slice(block)].argmax()), len(OPERATION_NAMES))
        genes.append(Gene(given, OPERATION_NAMES[name]))
    return tuple(genes)


def one_hot_genes(genes: Sequence[Gene]) -> tuple[Tensor, Tensor]:
    """Return the weights that choose exactly these genes.

    Returns:
        The weights (inputs, operations) of the operations and (inputs,) of the inputs, each 0 or 1.
    """
    places = cell_inputs(len(genes))
    operations, inputs = torch.zeros(len(places), len(OPERATION_NAMES)), torch.zeros(len(places))
    for block, gene in enumerate(genes, 1):
        place = places.index((block, gene.input))
        inputs[place] = 1.0
        operations[place, OPERATION_NAMES.index(gene.operation)] = 1.0
    return operations, inputs


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of equal groups.

    Args:
        x: An image (b, c, *size).
        groups: The number of groups; a second call with c / groups groups undoes the first one.
    """
    b, c, *size = x.shape
    return x.reshape(b, groups, c // groups, *size).transpose(1, 2).reshape(x.shape)


class PartialMixed(nn.Module):
    """The weighted sum of all operations on a part of the channels; the other channels pass unchanged.

    The channels are then shuffled, as in PC-DARTS, so that a chain of blocks processes all of them. Equation 2 has no
    shuffle, and would always process the same ones. The norms have no scale, which could undo the weights.

    Args:
        layout: The sizes of the network.
        channels: The number of channels.
        part: The first channels / part channels go through the operations.

    Raises:
        UserError: `part` does not divide the channels.
    """

    def __init__(self, layout: Layout, channels: int, part: int) -> None:
        super().__init__()
        if part < 1 or channels % part:
            raise UserError(f"part must divide the {channels} channels of a block, got {part}")
        self.part = part
        self.operations = nn.ModuleList(
            layout.operation(name, channels // part, affine=False) for name in OPERATION_NAMES
        )

    def forward(self, x: Tensor, weights: Tensor, active: Sequence[OperationName] = OPERATION_NAMES) -> Tensor:
        """Return an image of the same shape.

        Args:
            x: An image (b, channels, *size).
            weights: The weights (operations,) of the operations.
            active: The operations that are computed.
        """
        done, kept = x.tensor_split([x.shape[1] // self.part], dim=1)
        out = _total([self._weighted(name, done, weights) for name in active])
        return out if self.part == 1 else channel_shuffle(torch.cat([out, kept], 1), self.part)

    def _weighted(self, name: OperationName, x: Tensor, weights: Tensor) -> Tensor:
        n = OPERATION_NAMES.index(name)
        out: Tensor = weights[n] * self.operations[n](x)
        return out


class MixedCell(nn.Module):
    """The cell of one edge: it resamples and projects, and then each block adds up all earlier outputs, weighted.

    Args:
        layout: The sizes of the network.
        edge: The edge of the grid.
        part: The share of the channels that goes through the operations, see `PartialMixed`.
    """

    def __init__(self, layout: Layout, edge: Edge, part: int) -> None:
        super().__init__()
        self.entry = layout.entry(edge, affine=False)
        self.blocks = layout.blocks
        width = layout.width(edge.scale)
        self.mixed = nn.ModuleList(PartialMixed(layout, width, part) for _ in cell_inputs(layout.blocks))

    def forward(self, x: Tensor, operations: Tensor, inputs: Tensor, genes: Sequence[Gene] | None = None) -> Tensor:
        """Return the image (b, c, *size) that the edge gives to its target.

        Args:
            x: The image of the source, (b, c, *size).
            operations: The weights (inputs, operations) of the operations, in the order of `cell_inputs`.
            inputs: The weights (inputs,) of the inputs.
            genes: The genes that alone are computed, or None for all choices.
        """
        states = [self.entry(x)]
        for block in range(1, self.blocks + 1):
            first = block_slice(block).start
            gene = genes[block - 1] if genes is not None else None
            active = (gene.operation,) if gene is not None else OPERATION_NAMES
            terms = [
                inputs[first + given] * self.mixed[first + given](states[given], operations[first + given], active)
                for given in (range(block) if gene is None else (gene.input,))
            ]
            states.append(_total(terms))
        return torch.cat(states[1:], 1)


def _total(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
