"""Pictures of an architecture search: a drawing of a network, and the history of the search. PNG or SVG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxward.core.genotype import CELL_KINDS, Gene, Genotype, Node, has_node, path_edges
from voxward.report.chart_figure import figure_svg
from voxward.report.palette import FAINT, GRID, LINES, MARK, line_colour
from voxward.report.style import save, styled


@styled()
def search_history(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw losses, entropies and expected cost of an architecture search against the epoch, as PNG.

    The bands show the phases: weights alone, then cells, then the network.

    Args:
        rows: The rows of the search's log.
        path: The file.
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
            axis.axvspan(row["epoch"] - 1, row["epoch"], color=GRID, alpha=0.06 * row["phase"], linewidth=0)
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in (losses, entropies):
        axis.legend(frameon=False, fontsize=8)
    cost.set_xlabel("epoch (grey: cells, dark: network)")
    save(figure, path)


def draw_architecture(genotype: Genotype, path: Path, title: str) -> None:
    """Draw a network's paths on its grid of layers and scales, and its three kinds of cell.

    A path is a line of its own colour, thick where its edge has much weight; a skip (no cell) is dashed.

    Args:
        genotype: The network.
        path: The file, SVG or PNG by its suffix.
        title: Heading of the figure.
    """
    save(_architecture_figure(genotype, title), path)


def architecture_svg(genotype: Genotype, title: str) -> bytes:
    """Return the drawing of a network as the content of an SVG file; see `draw_architecture`."""
    return figure_svg(_architecture_figure(genotype, title))


@styled()
def _architecture_figure(genotype: Genotype, title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 + 0.9 * genotype.layers, 3.2 + 0.7 * genotype.scales), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=10)
    parts = figure.add_gridspec(2, 3, height_ratios=(0.5 + 0.7 * genotype.scales, 2.2))
    _draw_grid(figure.add_subplot(parts[0, :]), genotype)
    for n, kind in enumerate(CELL_KINDS):
        _draw_cell(figure.add_subplot(parts[1, n]), genotype.cells.of(kind), kind)
    return figure


def _draw_grid(axis: Any, genotype: Genotype) -> None:
    used = {node for edge in genotype.edges for node in (edge.source, edge.target)}
    for layer in range(genotype.layers + 1):
        for scale in range(genotype.scales):
            if has_node(genotype.layers, genotype.scales, (layer, scale)):
                face = MARK if (layer, scale) in used else FAINT
                axis.plot([layer], [-scale], marker="o", markersize=9, color=face, zorder=3)
    weights = dict(zip(genotype.edges, genotype.weights or (1.0,) * len(genotype.edges), strict=True))
    for n, kinds in enumerate(genotype.paths):
        shift = 0.07 * (n - (len(genotype.paths) - 1) / 2)
        for edge in path_edges(kinds):
            (x0, y0), (x1, y1) = _place(edge.source), _place(edge.target)
            axis.plot(
                [x0, x1], [y0 + shift, y1 + shift], color=line_colour(n).light, zorder=2,
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
            bbox={"boxstyle": "circle", "facecolor": "white", "edgecolor": MARK},
        )  # fmt: skip
    for block, gene in enumerate(genes, 1):
        arrow = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=-0.45", "color": LINES[0].light, "shrinkA": 9}
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
