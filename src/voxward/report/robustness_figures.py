"""Pictures of robustness: Dice over eps and over evaluations, and what an attack does to a case. PNG files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.report.figures import save
from voxward.report.slices import TEXT, Picture, Slice, draw, grid_of, legend, turn
from voxward.robustness.eps import eps_texts
from voxward.robustness.record import Record
from voxward.robustness.summary import Curve, View

_LINES = ("#1f77b4", "#d9541e", "#2a9d5c", "#8e5bd0", "#b58900", "#c2418c", "#5c6b73", "#17a2b8")
_PANEL = (3.6, 3.2)
_COLUMNS = 4


def curves_figure(
    path: Path,
    records: Sequence[Record],
    ensembles: Mapping[str, tuple[str, ...]] | None = None,
    deployed: bool = False,
) -> None:
    """Draw the worst-case Dice over eps as PNG: a panel for the mean and one per class, a line per model.

    A class has the Dice that it has under the attack with the lowest mean over the classes. Bands are 95 % bootstrap
    intervals.

    Args:
        path: The file.
        records: Records of one or several models.
        ensembles: Sets of attacks by name; the last one is drawn, as the strongest comes last. None: all attacks.
        deployed: Whether the Dice is that of the written files.

    Raises:
        UserError: There are no records, or a model has no clean control.
    """
    if not records:
        raise UserError("curves need at least one record, got none")
    name, attacks = list(ensembles.items())[-1] if ensembles else ("all attacks", None)
    classes = records[0].classes
    figure, axes = _panels(1 + len(classes), f"Worst case over {name}")
    view = View(records, deployed, attacks=attacks)
    for number, model in enumerate(view.models):
        colour = _LINES[number % len(_LINES)]
        _band(axes[0], view.curve(model), model, colour)
        for place, axis in enumerate(axes[1:]):
            _band(axis, view.class_curve(model, place), model, colour)
    for axis, title in zip(axes, ("mean", *classes), strict=True):
        _dress(axis, title, "eps")
    axes[0].legend(frameon=False, fontsize=8)
    save(figure, path)


def iterations_figure(path: Path, records: Sequence[Record], eps: float | None = None) -> None:
    """Draw the lowest Dice over an attack's evaluations as PNG: a panel per model, a line per attack with a history.

    Args:
        path: The file.
        records: Records of one or several models.
        eps: Size of the perturbations; by default the middle one (the larger of two) at which there are attacks.

    Raises:
        UserError: There are no attacks at this eps.
    """
    view = View(records)
    sizes = view.eps
    if not sizes or (eps is not None and eps not in sizes):
        raise UserError(f"eps must be one at which there are attacks, {list(sizes)}, got {eps}")
    chosen = sizes[len(sizes) // 2] if eps is None else eps
    attacks = sorted({r.attack for r in records if r.kind == "attack" and r.eps == chosen and len(r.history) > 1})
    figure, axes = _panels(len(view.models), f"Lowest Dice so far, eps {eps_texts(records, alone=True)(chosen)}")
    for axis, model in zip(axes, view.models, strict=True):
        for number, attack in enumerate(attacks):
            values = view.history(model, attack, chosen)
            if not values:
                continue
            # A query attack needs many times the evaluations of one with gradients.
            axis.set_xscale("log")
            axis.plot(
                range(1, len(values) + 1), values, label=attack, color=_LINES[number % len(_LINES)], linewidth=1.5
            )
        _dress(axis, model, "evaluations")
        if axis.lines:
            axis.legend(frameon=False, fontsize=8)
    save(figure, path)


def panel_figure(path: Path, clean: Picture, attacked: Picture, title: str) -> None:
    """Draw an attack on a case in the axial slice with the most foreground, as PNG.

    Columns are the image, the perturbation (signed, in colours that span its largest value over the volume), the
    truth, and the segmentations without and under attack.

    Args:
        path: The file.
        clean: The image, its truth and its segmentation.
        attacked: The adversarial image and its segmentation, with the same truth.
        title: Heading of the figure.

    Raises:
        UserError: The shapes differ, or there is no truth.
    """
    if attacked.image.shape != clean.image.shape:
        raise UserError(f"both images must have the shape {clean.image.shape}, got {attacked.image.shape}")
    if clean.truth is None:
        raise UserError("a panel needs the truth")
    view = clean.views[0]
    foreground = clean.truth > 0 if (clean.truth > 0).any() else clean.foreground | (attacked.prediction > 0)
    before, after = (Slice.cut(view, picture, foreground) for picture in (clean, attacked))
    delta = attacked.image.astype(np.float64) - clean.image.astype(np.float64)
    largest = float(np.abs(delta).max())
    columns = ["image", f"perturbation (±{largest:.3g})", "truth", "segmentation", "segmentation under attack"]
    figure, axes = grid_of([before], columns, title)
    image, perturbation, truth, segmentation, struck = axes[0]
    draw(image, "image", before, clean.intensities)
    _draw_perturbation(perturbation, turn(delta, before.axis, before.index), before, largest)
    draw(truth, "truth", before, clean.intensities)
    draw(segmentation, "prediction", before, clean.intensities)
    draw(struck, "prediction", after, clean.intensities)
    legend(figure, clean.labels, sorted({*before.classes, *after.classes}), False)
    save(figure, path)


def _draw_perturbation(axis: Any, delta: np.ndarray, part: Slice, largest: float) -> None:
    """Red is brighter than before, blue darker; all of an unchanged image is white."""
    limit = max(largest, 1e-12)
    axis.imshow(delta, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect=part.height / part.width, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    part.enlarge(axis)
    axis.text(
        0.5, -0.02, "red: brighter, blue: darker", transform=axis.transAxes, color=TEXT, ha="center", va="top",
        fontsize=8,
    )  # fmt: skip


def _panels(count: int, title: str) -> tuple[Any, list[Any]]:
    """A figure and `count` axes with a common Dice axis."""
    from matplotlib.figure import Figure

    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows + 0.3), dpi=120, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for unused in axes[count:]:
        unused.remove()
    figure.suptitle(title, fontsize=11)
    return figure, axes[:count]


def _band(axis: Any, curve: Curve, label: str, colour: str) -> None:
    eps = [point for point, _ in curve]
    axis.plot(eps, [summary.mean for _, summary in curve], marker="o", markersize=3, color=colour, label=label)
    low, high = ([getattr(summary, side) for _, summary in curve] for side in ("low", "high"))
    axis.fill_between(eps, low, high, color=colour, alpha=0.15, linewidth=0)


def _dress(axis: Any, title: str, along: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(along)
    axis.set_ylabel("Dice")
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
