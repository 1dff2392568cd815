"""The super-net of MS-NAS, which is every network of the space at once, weighted by the architecture.

The architecture is alpha, which weights the operations in a cell, p, which weights the inputs in a cell (both one set
per kind of cell), and beta, which weights the edges of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxward.architecture_search.cell import (
    MixedCell,
    best_genes,
    cell_inputs,
    normalise_inputs,
    one_hot_genes,
)
from voxward.architecture_search.paths import Path, edge_weights, genotype_on, k_best, uniform_path_scores
from voxward.architecture_search.space import MacroSpace
from voxward.core.errors import UserError
from voxward.core.genotype import (
    CELL_KINDS,
    OPERATION_NAMES,
    CellGenes,
    Edge,
    EdgeKind,
    Genotype,
)
from voxward.core.registry import Registry
from voxward.nets.inputs import check_input
from voxward.nets.layout import Layout
from voxward.nets.searched import propagate

STARTS: Registry[Callable[[MacroSpace], Tensor]] = Registry(
    "search.start",
    {"uniform-path": uniform_path_scores, "uniform-edge": lambda space: torch.zeros(len(space.edges))},
)
"""Functions from a grid to scores that are added to beta.

At the start they make all paths equally likely, or all edges into a node (the paper).
"""


class SuperNet(nn.Module):
    """The continuous relaxation of the space (equations 1 to 3).

    `temperature` divides alpha, p and beta before the softmax. What `start` adds to beta is not divided, so that
    neither cooling nor weight decay prefers a path.

    Args:
        in_channels: The number of channels of the image.
        out_channels: The number of outputs.
        space: The grid.
        layout: The sizes of the network.
        part: The first 1 / part of the channels of a block go through the operations (k in the paper).
        start: What is equally likely while beta is 0, a name in `STARTS`. Alpha and p start at 0, too.
        checkpointing: True computes each cell again in the backward pass instead of keeping its activations.

    Raises:
        UserError: The layout does not fit the space, `part` does not divide the filters, or `start` is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        space: MacroSpace,
        layout: Layout,
        part: int = 4,
        start: str = "uniform-path",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check(space, layout, part)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.space, self.layout, self.part, self.checkpointing = space, layout, part, checkpointing
        self.total_stride = layout.total_stride(space.scales - 1)
        self.stem = layout.stem(in_channels)
        self.cells = nn.ModuleDict(
            {edge.name: MixedCell(layout, edge, part) for edge in space.edges if edge.kind in CELL_KINDS}
        )
        self.head = layout.head(out_channels)
        inputs = len(cell_inputs(layout.blocks))
        self.alpha = nn.ParameterDict({kind: torch.zeros(inputs, len(OPERATION_NAMES)) for kind in CELL_KINDS})
        self.p = nn.ParameterDict({kind: torch.zeros(inputs) for kind in CELL_KINDS})
        self.beta = nn.Parameter(torch.zeros(len(space.edges)))
        self.register_buffer("prior", STARTS[start](space), persistent=False)
        self.prior: Tensor
        self._temperature = 1.0
        self._restriction: Genotype | None = None

    @property
    def temperature(self) -> float:
        """Return the number that divides alpha, p and beta; towards 0, the weights become choices."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not value > 0:
            raise UserError(f"temperature must be positive, got {value}")
        self._temperature = value

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (b, out_channels, *size) of images (b, in_channels, *size)."""
        if images.ndim != self.layout.dimensions + 2:
            raise UserError(
                f"the network takes {self.layout.dimensions}D images (b, c, *size), got shape {tuple(images.shape)}"
            )
        check_input(images, self.in_channels, self.total_stride)
        weights: dict[Edge, Tensor] = dict(zip(self.space.edges, self.edge_weights(), strict=True))
        kinds = {kind: self._weights_in_use(kind) for kind in CELL_KINDS}
        edges = self._restriction.edges if self._restriction is not None else self.space.edges

        def arrive(edge: Edge, x: Tensor) -> Tensor:
            return weights[edge] * (self._cell(edge, x, *kinds[edge.kind]) if edge.kind in kinds else x)

        logits: Tensor = self.head(propagate(edges, self.stem(images), arrive))
        return logits

    def edge_weights(self) -> Tensor:
        """Return the softmax of beta, in the order of the space's edges; 0 for edges that a restriction leaves out."""
        kept = None
        if self._restriction is not None:
            kept = [edge in self._restriction.edges for edge in self.space.edges]
        return edge_weights(self.space, self._edge_scores(), kept)

    def cell_weights(self, kind: EdgeKind) -> tuple[Tensor, Tensor]:
        """Return the softmax of alpha and p of a kind of cell, in the order of `cell_inputs`.

        Returns:
            The weights (inputs, operations) of the operations and (inputs,) of the inputs.
        """
        operations = (self.alpha[kind] / self.temperature).softmax(1)
        return operations, normalise_inputs(self.p[kind] / self.temperature, self.layout.blocks)

    def restrict(self, genotype: Genotype | None) -> None:
        """Compute only the edges and the operations of one network; the betas that are left are normalised again.

        Args:
            genotype: The network, or None to compute everything.

        Raises:
            UserError: The network is of another space.
        """
        if genotype is not None:
            self._check_genotype(genotype)
        self._restriction = genotype

    def cell_parameters(self) -> list[nn.Parameter]:
        """Return alpha and p."""
        return [*self.alpha.values(), *self.p.values()]

    def network_parameters(self) -> list[nn.Parameter]:
        """Return beta."""
        return [self.beta]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return all parameters that are not architecture."""
        architecture = {id(parameter) for parameter in (*self.cell_parameters(), *self.network_parameters())}
        return [parameter for parameter in self.parameters() if id(parameter) not in architecture]

    def decode(self, paths: int = 3, score: str = "sum", diverse: bool = False) -> Genotype:
        """Return the network of the best cell of each kind on the best paths (section 2.2).

        Args:
            paths: The number of paths.
            score: What is added up along a path, a name in `voxward.architecture_search.paths.SCORES`.
            diverse: True demands that each path has an edge that no better path has.

        Raises:
            UserError: There are fewer such paths, or the score is unknown.
        """
        weights = edge_weights(self.space, self._edge_scores().detach().cpu().double())
        best = k_best(self.space, weights, paths, score, diverse)
        return self.genotype_of(best, self.best_cells())

    def genotype_of(self, paths: Iterable[Path], cells: CellGenes) -> Genotype:
        """Return the network of given paths and cells.

        Args:
            paths: The paths, as positions in the edges of the space. Betas are normalised over what enters each node.
            cells: The cell of each kind.
        """
        scores = self._edge_scores().detach().cpu().double()
        return genotype_on(self.space, self.layout.dimensions, paths, cells, scores)

    def _edge_scores(self) -> Tensor:
        return self.prior + self.beta / self.temperature

    def best_cells(self) -> CellGenes:
        """Return the best cell of each kind, as `best_genes` chooses it."""
        blocks = self.layout.blocks
        best = {kind: best_genes(*self.cell_weights(kind), blocks) for kind in CELL_KINDS}
        return CellGenes(best["down"], best["same"], best["up"])

    def _weights_in_use(self, kind: EdgeKind) -> tuple[Tensor, Tensor]:
        if self._restriction is None:
            return self.cell_weights(kind)
        operations, inputs = one_hot_genes(self._restriction.cells.of(kind))
        return operations.to(self.beta), inputs.to(self.beta)

    def _cell(self, edge: Edge, x: Tensor, operations: Tensor, inputs: Tensor) -> Tensor:
        cell = self.cells[edge.name]
        genes = self._restriction.cells.of(edge.kind) if self._restriction is not None else None
        if not (self.checkpointing and torch.is_grad_enabled()):
            return cast(Tensor, cell(x, operations, inputs, genes))
        out = checkpoint(
            cell, x, operations, inputs, genes,
            use_reentrant=False, preserve_rng_state=False, context_fn=lambda: (nullcontext(), _statistics_kept(cell)),
        )  # fmt: skip
        return cast(Tensor, out)

    def _check_genotype(self, genotype: Genotype) -> None:
        ours = (self.layout.dimensions, self.space.layers, self.space.scales, self.layout.blocks)
        theirs = (genotype.dimensions, genotype.layers, genotype.scales, genotype.blocks)
        if ours != theirs:
            raise UserError(f"genotype must have (dimensions, layers, scales, blocks) {ours}, got {theirs}")


def _check(space: MacroSpace, layout: Layout, part: int) -> None:
    found = []
    if len(layout.strides) != space.scales:
        found.append(f"layout.strides must be {space.scales}, the stem's and one between scales, got {layout.strides}")
    if part < 1 or layout.filters % part:
        found.append(f"part must divide the {layout.filters} filters, got {part}")
    if found:
        raise UserError("; ".join(found))


@contextmanager
def _statistics_kept(cell: nn.Module) -> Iterator[None]:
    """Let batch norms count a batch once, though a cell that is computed again sees it twice."""
    norms = [part for part in cell.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d)]
    found = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, found, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
