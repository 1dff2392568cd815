"""The super-net of MS-NAS: every network of the space at once, weighted by the architecture parameters.

alpha weights the operations and p the inputs in a cell, one set per kind of cell; beta weights the edges of the grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal, cast

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
from voxward.architecture_search.paths import Path, Score, edge_weights, k_best, uniform_path_scores
from voxward.architecture_search.space import MacroSpace
from voxward.core.errors import UserError
from voxward.core.genotype import (
    CELL_KINDS,
    OPERATION_NAMES,
    CellGenes,
    Edge,
    EdgeKind,
    Genotype,
    path_edges,
)
from voxward.nets.check_input import check_input
from voxward.nets.layout import Layout
from voxward.nets.searched import propagate

Start = Literal["uniform-path", "uniform-edge"]


class SuperNet(nn.Module):
    """The continuous relaxation of the space (equations 1 to 3).

    part: 1 / part of a block's channels go through the operations (the paper's k). start: what is equally likely while
    beta is 0, all paths or all edges into a node (the paper); alpha and p start at 0, too. checkpointing: recompute
    each cell in the backward pass instead of keeping its activations. `temperature` divides all three before the
    softmax; what `start` adds to beta is not divided, so that neither cooling nor weight decay prefers a path.
    Raises ValueError for a layout that does not fit the space and for a part that does not divide the filters.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        space: MacroSpace,
        layout: Layout,
        part: int = 4,
        start: Start = "uniform-path",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check(space, layout, part, start)
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
        prior = uniform_path_scores(space) if start == "uniform-path" else torch.zeros(len(space.edges))
        self.register_buffer("prior", prior, persistent=False)
        self.prior: Tensor
        self._temperature = 1.0
        self._restriction: Genotype | None = None

    @property
    def temperature(self) -> float:
        """What alpha, p and beta are divided by; towards 0 the weights become choices."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not value > 0:
            raise UserError(f"temperature must be positive, got {value}")
        self._temperature = value

    def forward(self, images: Tensor) -> Tensor:
        """(b, in_channels, *size) -> logits (b, out_channels, *size)."""
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
        """Softmaxed beta in the order of the space's edges; 0 for those a restriction leaves out."""
        kept = None
        if self._restriction is not None:
            kept = [edge in self._restriction.edges for edge in self.space.edges]
        return edge_weights(self.space, self._edge_scores(), kept)

    def cell_weights(self, kind: EdgeKind) -> tuple[Tensor, Tensor]:
        """Softmaxed alpha (inputs, operations) and p (inputs,) of a kind of cell, in the order of `cell_inputs`."""
        operations = (self.alpha[kind] / self.temperature).softmax(1)
        return operations, normalise_inputs(self.p[kind] / self.temperature, self.layout.blocks)

    def restrict(self, genotype: Genotype | None) -> None:
        """Compute only the edges and operations of a genotype; None lifts it. The kept betas are renormalised.

        Raises ValueError for a genotype of another space.
        """
        if genotype is not None:
            self._check_genotype(genotype)
        self._restriction = genotype

    def cell_parameters(self) -> list[nn.Parameter]:
        """Alpha and p."""
        return [*self.alpha.values(), *self.p.values()]

    def network_parameters(self) -> list[nn.Parameter]:
        """Beta."""
        return [self.beta]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything that is not architecture."""
        architecture = {id(parameter) for parameter in (*self.cell_parameters(), *self.network_parameters())}
        return [parameter for parameter in self.parameters() if id(parameter) not in architecture]

    def decode(self, paths: int = 3, score: Score = "sum", diverse: bool = False) -> Genotype:
        """The best cell of each kind on the union of the best paths (section 2.2), see `k_best`."""
        weights = edge_weights(self.space, self._edge_scores().detach().double().cpu())
        best = k_best(self.space, weights, paths, score, diverse)
        return self.genotype_of(best, self.best_cells())

    def genotype_of(self, paths: Iterable[Path], cells: CellGenes) -> Genotype:
        """A genotype of this space: the betas of the paths' edges are renormalised over what enters each node."""
        chosen = tuple(tuple(self.space.edges[n].kind for n in path) for path in paths)
        union = {edge for path in chosen for edge in path_edges(path)}
        kept = [edge in union for edge in self.space.edges]
        weights = edge_weights(self.space, self._edge_scores().detach().double().cpu(), kept).tolist()
        return Genotype(
            dimensions=cast(Literal[2, 3], self.layout.dimensions),
            layers=self.space.layers,
            scales=self.space.scales,
            cells=cells,
            paths=chosen,
            weights=tuple(weight for weight, keep in zip(weights, kept, strict=True) if keep),
        )

    def _edge_scores(self) -> Tensor:
        return self.prior + self.beta / self.temperature

    def best_cells(self) -> CellGenes:
        """The best cell of each kind, see `best_genes`."""
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


def _check(space: MacroSpace, layout: Layout, part: int, start: str) -> None:
    found = []
    if len(layout.strides) != space.scales:
        found.append(f"layout.strides must be {space.scales}, the stem's and one between scales, got {layout.strides}")
    if part < 1 or layout.filters % part:
        found.append(f"part must divide the {layout.filters} filters, got {part}")
    if start not in ("uniform-path", "uniform-edge"):
        found.append(f"start must be uniform-path or uniform-edge, got {start!r}")
    if found:
        raise UserError("; ".join(found))


@contextmanager
def _statistics_kept(cell: nn.Module) -> Iterator[None]:
    """Batch norms count a batch once, though a checkpointed cell sees it twice."""
    norms = [part for part in cell.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d)]
    found = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, found, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
