"""The network that a Genotype describes, and the parts it shares with the super-net it was searched in.

Source: MS-NAS (Yan et al., MICCAI 2020), sections 2.1 and 2.2; 2D as published, or 3D with a stride per axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.genotype import CELL_KINDS, Edge, Gene, Genotype, Node, OperationName, load_genotype
from voxward.core.structure import from_data, to_data
from voxward.nets.depthwise import depthwise_conv3d
from voxward.nets.lattice import check_input
from voxward.nets.slicewise import Slicewise

Stride = tuple[int, ...]

NORMS = ("batch", "instance")
_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOL: dict[int, Callable[..., Tensor]] = {2: F.avg_pool2d, 3: F.avg_pool3d}
_NORM: dict[tuple[str, int], Callable[..., nn.Module]] = {
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
}


class _DepthwiseConv3d(nn.Conv3d):
    """Depthwise convolution without dilation, with fast gradients."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, d, h, w) -> the same shape."""
        i = self.kernel_size[0] // 2
        return depthwise_conv3d(x, self.weight, padding=(i, i, i))


class Upsample(nn.Module):
    """Linear up-sampling by a whole factor per axis."""

    def __init__(self, factor: Stride) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, *size) -> (b, c, *size * factor)."""
        mode = "bilinear" if len(self.factor) == 2 else "trilinear"
        return F.interpolate(x, scale_factor=tuple(map(float, self.factor)), mode=mode, align_corners=False)


class AveragePool(nn.Module):
    """Mean over 3 voxels per axis, of those that lie in the image."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.pool = _AVERAGE_POOL[dimensions]

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, *size) -> the same shape."""
        if min(x.shape[2:]) >= 3:
            return self.pool(x, 3, stride=1, padding=1, count_include_pad=False)
        # PyTorch's 3D pooling refuses an axis shorter than its kernel, even with padding.
        margin = (1, 1) * (x.ndim - 2)
        inside = F.pad(torch.ones_like(x[:1, :1]), margin)
        return self.pool(F.pad(x, margin), 3, stride=1) / self.pool(inside, 3, stride=1)


class SeparableResidual(nn.Module):
    """x + norm(pointwise(depthwise(ReLU(x)))) (figure 2)."""

    def __init__(self, layout: Layout, channels: int, kernel: int, dilation: int, affine: bool) -> None:
        super().__init__()
        conv = _CONV[layout.dimensions]
        spread: type[nn.Conv2d] | type[nn.Conv3d] = conv
        if layout.dimensions == 3 and dilation == 1:
            spread = _DepthwiseConv3d
        padding = dilation * (kernel // 2)
        self.layers = nn.Sequential(
            nn.ReLU(),
            spread(channels, channels, kernel, padding=padding, dilation=dilation, groups=channels, bias=False),
            conv(channels, channels, 1, bias=False),
            layout.norm_layer(channels, affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, *size) -> the same shape."""
        out: Tensor = x + self.layers(x)
        return out


@dataclass(frozen=True)
class Layout:
    """Sizes that a search does not choose. Raises ValueError naming every problem.

    dimensions: 2 or 3. strides: the stem's, then one from each scale to the next coarser one, per axis. filters: of a
    block at scale 0, doubled at each scale. blocks: per cell; a cell concatenates them. norm: `batch` or `instance`.
    """

    dimensions: int
    strides: tuple[Stride, ...]
    filters: int = 32
    blocks: int = 3
    norm: str = "batch"

    def __post_init__(self) -> None:
        found = [] if self.dimensions in (2, 3) else [f"dimensions must be 2 or 3, got {self.dimensions}"]
        if not self.strides or any(len(step) != self.dimensions or min(step) < 1 for step in self.strides):
            found.append(f"strides must have {self.dimensions} whole numbers from 1 up each, got {self.strides}")
        for name in ("filters", "blocks"):
            if getattr(self, name) < 1:
                found.append(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.norm not in NORMS:
            found.append(f"norm must be one of {', '.join(NORMS)}, got {self.norm!r}")
        if found:
            raise UserError("; ".join(found))

    def width(self, scale: int) -> int:
        """Channels of a block."""
        return self.filters << scale

    def channels(self, scale: int) -> int:
        """Channels of a node: a cell's concatenated blocks."""
        return self.blocks * self.width(scale)

    def total_stride(self, scale: int) -> Stride:
        """Product of the strides down to a scale, per axis."""
        return tuple(math.prod(steps) for steps in zip(*self.strides[: scale + 1], strict=True))

    def norm_layer(self, channels: int, affine: bool = True) -> nn.Module:
        """Normalisation of (b, channels, *size)."""
        return _NORM[self.norm, self.dimensions](channels, affine=affine)

    def stem(self, in_channels: int) -> nn.Module:
        """Images -> node (0, 0)."""
        conv: Callable[..., nn.Module] = _CONV[self.dimensions]
        channels = self.channels(0)
        first = conv(in_channels, channels, 3, stride=self.strides[0], padding=1, bias=False)
        return nn.Sequential(first, self.norm_layer(channels))

    def head(self, out_channels: int) -> nn.Module:
        """The last node -> logits at the images' resolution."""
        score = _CONV[self.dimensions](self.channels(0), out_channels, 1)
        return nn.Sequential(score, _resample(Upsample, self.strides[0]))

    def entry(self, edge: Edge, affine: bool = True) -> nn.Module:
        """The start of an edge's cell: its source's channels and resolution -> a block's at its target."""
        scale, width = edge.scale, self.width(edge.scale)
        resample: nn.Module = nn.Identity()
        if edge.kind == "down":
            resample = _resample(_MAX_POOL[self.dimensions], self.strides[scale])
        elif edge.kind == "up":
            resample = _resample(Upsample, self.strides[scale + 1])
        project = _CONV[self.dimensions](self.channels(edge.source[1]), width, 1, bias=False)
        return nn.Sequential(resample, nn.ReLU(), project, self.norm_layer(width, affine))

    def operation(self, name: OperationName, channels: int, affine: bool = True) -> nn.Module:
        """A searchable operation: (b, channels, *size) -> the same shape."""
        return OPERATIONS[name](self, channels, affine)


def _resample(build: Callable[[Stride], nn.Module], stride: Stride) -> nn.Module:
    return build(stride) if max(stride) > 1 else nn.Identity()


# The paper names four and "etc."; the fifth (sep5) is our choice. Its sizes of the space ask for five.
OPERATIONS: dict[OperationName, Callable[[Layout, int, bool], nn.Module]] = {
    "sep3": lambda layout, channels, affine: SeparableResidual(layout, channels, 3, 1, affine),
    "sep5": lambda layout, channels, affine: SeparableResidual(layout, channels, 5, 1, affine),
    "dil3": lambda layout, channels, affine: SeparableResidual(layout, channels, 3, 2, affine),
    "avg3": lambda layout, channels, affine: AveragePool(layout.dimensions),
    "skip": lambda layout, channels, affine: nn.Identity(),
}


def stage_strides(
    dimensions: int, scales: int, steps: Sequence[Sequence[int]] | None = None, flat_stem: bool | None = None
) -> tuple[Stride, ...]:
    """The strides of a `Layout` with so many scales.

    steps: of downsampling, in voxels of the volume's axes, finest first; default 2 everywhere. As many as there are
    scales are used, and where there are fewer, flat ones stand in front. flat_stem: the stem keeps the resolution;
    default: in 2D, as published, and not in 3D, where no memory would hold it. Raises ValueError for steps without one
    number per axis; a 2D network has no stride along the third one.
    """
    if steps is None:
        steps = ((2, 2, 2 if dimensions == 3 else 1),) * scales
    wrong = [step for step in steps if len(step) != 3 or min(step) < 1 or (dimensions == 2 and step[2] != 1)]
    if wrong:
        third = " and 1 along the third" if dimensions == 2 else ""
        raise UserError(f"strides of a {dimensions}D network must have 3 whole numbers from 1 up{third}, got {wrong}")
    flat, used = (1,) * dimensions, [tuple(step[:dimensions]) for step in steps]
    if flat_stem if flat_stem is not None else dimensions == 2:
        used = [flat, *used]
    return (flat,) * (scales - len(used)) + tuple(used[:scales])


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
