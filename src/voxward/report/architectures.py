"""Searched architectures for a person: a table, a drawing of each, and the history of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from voxward.architecture_search.cost import Cost
from voxward.core.genotype import CELL_KINDS, Gene, Genotype, Node, has_node, path_edges
from voxward.core.types import Size3
from voxward.report.figures import save

_COLOURS = ("#2f6fde", "#d9541e", "#2a9d5c", "#8a4fc7", "#c79a1e", "#1ea3b0", "#c73f7b", "#666666")
_COLUMNS = ("network", "paths", "edges", "coarsest", "parameters M", "GMACs", "activations M", "inherited Dice")


@dataclass(frozen=True)
class Architecture:
    """A decoded network. cost: for one patch of the plan. dice: with the super-net's weights; None: not measured."""

    name: str
    genotype: Genotype
    cost: Cost
    dice: float | None


def architectures_table(found: Sequence[Architecture]) -> Table:
    """A row per network, for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "network" else "right")
    for architecture in found:
        table.add_row(*_cells(architecture))
    return table


def architectures_markdown(found: Sequence[Architecture], patch: Size3) -> str:
    """The same as GitHub Markdown, with what the columns mean; patch: of the plan, in voxels."""
    lines = [_COLUMNS, ["---", *["---:"] * (len(_COLUMNS) - 1)], *map(_cells, found)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{body}\n\nFor one patch of {' x '.join(map(str, patch))}; coarsest: scale in use, from 0; inherited Dice: "
        "mean over the foreground classes\nwith the super-net's weights, on the half of the cases that taught the "
        "architecture. `untrained`: what the super-net\ndecodes to before it has learnt anything.\n"
    )


def _cells(architecture: Architecture) -> list[str]:
    genotype, cost = architecture.genotype, architecture.cost
    return [
        architecture.name,
        str(len(genotype.paths)),
        str(len(genotype.edges)),
        str(max(edge.scale for edge in genotype.edges)),
        f"{cost.parameters / 1e6:.3f}",
        f"{cost.macs / 1e9:.3f}",
        f"{cost.activations / 1e6:.2f}",
        "n/a" if architecture.dice is None else f"{architecture.dice:.3f}",
    ]


def search_history(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw losses, entropies and expected cost against the epoch, from the rows of a search's log, as PNG.

    The bands are the phases: weights alone, cells, network.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7), dpi=120, layout="constrained")
    losses, entropies, cost = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    epochs = [row["epoch"] for row in rows]
    shown = (
        (losses, ("weight_loss", "architecture_loss"), "loss"),
        (entropies, ("operation_entropy", "input_entropy", "path_entropy"), "entropy / largest"),
        (cost, ("expected_gmac",), "expected GMACs"),
    )
    for axis, names, label in shown:
        for name in names:
            words = name.replace("_", " ")
            axis.plot(epochs, [row[name] for row in rows], label=words, marker="o", markersize=2.5, linewidth=1.4)
        for row in rows:
            axis.axvspan(row["epoch"] - 1, row["epoch"], color="#888888", alpha=0.06 * row["phase"], linewidth=0)
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in (losses, entropies):
        axis.legend(frameon=False, fontsize=8)
    cost.set_xlabel("epoch (grey: cells, dark: network)")
    save(figure, path)


def draw_architecture(genotype: Genotype, path: Path, title: str) -> None:
    """Draw a network's paths on its grid, and its three kinds of cell, as SVG or PNG by the path's suffix.

    A path is a line of its own colour, thick where its edge has much weight; a skip (no cell) is dashed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 + 0.9 * genotype.layers, 3.2 + 0.7 * genotype.scales), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=10)
    parts = figure.add_gridspec(2, 3, height_ratios=(0.5 + 0.7 * genotype.scales, 2.2))
    _draw_grid(figure.add_subplot(parts[0, :]), genotype)
    for n, kind in enumerate(CELL_KINDS):
        _draw_cell(figure.add_subplot(parts[1, n]), genotype.cells.of(kind), kind)
    save(figure, path)


def _draw_grid(axis: Any, genotype: Genotype) -> None:
    used = {node for edge in genotype.edges for node in (edge.source, edge.target)}
    for layer in range(genotype.layers + 1):
        for scale in range(genotype.scales):
            if has_node(genotype.layers, genotype.scales, (layer, scale)):
                face = "#333333" if (layer, scale) in used else "#dddddd"
                axis.plot([layer], [-scale], marker="o", markersize=9, color=face, zorder=3)
    weights = dict(zip(genotype.edges, genotype.weights or (1.0,) * len(genotype.edges), strict=True))
    for n, kinds in enumerate(genotype.paths):
        shift = 0.07 * (n - (len(genotype.paths) - 1) / 2)
        for edge in path_edges(kinds):
            (x0, y0), (x1, y1) = _place(edge.source), _place(edge.target)
            axis.plot(
                [x0, x1], [y0 + shift, y1 + shift], color=_COLOURS[n % len(_COLOURS)], zorder=2,
                linewidth=1 + 3 * weights[edge], linestyle=(0, (2, 1.5)) if edge.kind == "skip" else "-",
                label=f"path {n + 1}" if edge.layer == 1 else None, solid_capstyle="round",
            )  # fmt: skip
    axis.set_xticks(range(genotype.layers + 1))
    axis.set_yticks([-scale for scale in range(genotype.scales)], [str(scale) for scale in range(genotype.scales)])
    axis.set_xlabel("layer")
    axis.set_ylabel("scale")
    axis.spines[:].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="lower left", ncols=2)


def _place(node: Node) -> tuple[float, float]:
    return float(node[0]), -float(node[1])


def _draw_cell(axis: Any, genes: Sequence[Gene], kind: str) -> None:
    for n in range(len(genes) + 1):
        axis.text(
            n, 0, "in" if n == 0 else str(n), ha="center", va="center", fontsize=8, zorder=3,
            bbox={"boxstyle": "circle", "facecolor": "#f3f3f3", "edgecolor": "#333333"},
        )  # fmt: skip
    for block, gene in enumerate(genes, 1):
        arrow = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=-0.45", "color": "#2f6fde", "shrinkA": 9}
        axis.annotate("", (block, 0), (gene.input, 0), arrowprops={**arrow, "shrinkB": 9})
        axis.text(
            (block + gene.input) / 2,
            0.06 + 0.13 * (block - gene.input),
            gene.operation,
            ha="center",
            va="bottom",
            fontsize=8,
        )
    axis.set_xlim(-0.5, len(genes) + 0.5)
    axis.set_ylim(-0.4, 0.3 + 0.2 * len(genes))
    axis.set_title(f"cell: {kind}", fontsize=9)
    axis.axis("off")
