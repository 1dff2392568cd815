"""Pictures of robustness: Dice over eps and over evaluations, and what an attack does to a case. PNG files."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.types import Float3
from voxward.metrics.summary import Summary, summarise
from voxward.report.figures import (
    TEXT,
    VIEWS,
    Slice,
    classes_in,
    draw,
    flat_view,
    grid_of,
    legend,
    save,
    turn,
    window_of,
)
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.summary import curve_over_eps, curve_over_iterations, eps_values, worst_scores

_LINES = ("#1f77b4", "#d9541e", "#2a9d5c", "#8e5bd0", "#b58900", "#c2418c", "#5c6b73", "#17a2b8")
_PANEL = (3.6, 3.2)
_COLUMNS = 4

Curve = Sequence[tuple[float, Summary]]


def curves_figure(
    path: Path,
    records: Sequence[Record],
    ensembles: Mapping[str, tuple[str, ...]] | None = None,
    deployed: bool = False,
) -> None:
    """Draw worst-case Dice over eps, a panel for the mean and one per class, a line per model with its interval.

    ensembles: the last one is drawn (the strongest comes last); by default the worst of all attacks. The classes are
    those of the perturbation with the lowest mean. Raises ValueError for no records and a model without clean control.
    """
    if not records:
        raise UserError("curves need at least one record, got none")
    name, attacks = list(ensembles.items())[-1] if ensembles else ("all attacks", None)
    classes = records[0].classes
    figure, axes = _panels(1 + len(classes), f"Worst case over {name}")
    for number, model in enumerate(sorted({record.model for record in records})):
        colour = _LINES[number % len(_LINES)]
        _band(axes[0], curve_over_eps(records, model, attacks, deployed), model, colour)
        for place, axis in enumerate(axes[1:]):
            _band(axis, _class_curve(records, model, place, attacks, deployed), model, colour)
    for axis, title in zip(axes, ("mean", *classes), strict=True):
        _dress(axis, title, "eps")
    axes[0].legend(frameon=False, fontsize=8)
    save(figure, path)


def iterations_figure(path: Path, records: Sequence[Record], eps: float | None = None) -> None:
    """Draw the lowest Dice over evaluations, a panel per model and a line per attack that keeps a history.

    eps: by default the middle one (the larger of two) at which there are attacks. Raises ValueError for an eps
    without attacks.
    """
    sizes = eps_values(records)
    if not sizes or (eps is not None and eps not in sizes):
        raise UserError(f"eps must be one at which there are attacks, {list(sizes)}, got {eps}")
    chosen = sizes[len(sizes) // 2] if eps is None else eps
    models = sorted({record.model for record in records})
    attacks = sorted({r.attack for r in records if r.kind == "attack" and r.eps == chosen and len(r.history) > 1})
    figure, axes = _panels(len(models), f"Lowest Dice so far, eps {chosen:.4g}")
    for axis, model in zip(axes, models, strict=True):
        for number, attack in enumerate(attacks):
            values = curve_over_iterations(records, model, attack, chosen)
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


def panel_figure(
    path: Path,
    image: np.ndarray,
    adversarial: np.ndarray,
    truth: np.ndarray,
    clean_mask: np.ndarray,
    adversarial_mask: np.ndarray,
    spacing: Float3,
    labels: LabelSet,
    title: str,
) -> None:
    """Draw an attack on a case in the axial slice with the most foreground.

    Arrays (i, j, k) in RAS+ order: image and adversarial in intensities, the others class indices; spacing in mm.
    Columns: the image, the perturbation (signed, in colours that span its largest value over the volume), truth, and
    the segmentations of both. Raises ValueError when the shapes differ.
    """
    arrays = {
        "adversarial": adversarial, "truth": truth, "clean_mask": clean_mask, "adversarial_mask": adversarial_mask,
    }  # fmt: skip
    if image.ndim != 3:
        raise UserError(f"image must have three axes (i, j, k), got shape {image.shape}")
    for name, array in arrays.items():
        if array.shape != image.shape:
            raise UserError(f"{name} must have the image's shape {image.shape}, got {array.shape}")
    view = (flat_view(image) or VIEWS)[0]
    foreground = truth > 0 if (truth > 0).any() else (clean_mask > 0) | (adversarial_mask > 0)
    clean = Slice.cut(view, image, truth, clean_mask, foreground, spacing)
    struck = Slice.cut(view, adversarial, truth, adversarial_mask, foreground, spacing)
    delta = adversarial.astype(np.float64) - image.astype(np.float64)
    largest = float(np.abs(delta).max())
    columns = ["image", f"perturbation (±{largest:.3g})", "truth", "segmentation", "segmentation under attack"]
    figure, axes = grid_of([clean], columns, title)
    window = window_of(image)
    for axis, column, part in (
        (axes[0][0], "image", clean), (axes[0][2], "truth", clean), (axes[0][3], "prediction", clean),
        (axes[0][4], "prediction", struck),
    ):  # fmt: skip
        draw(axis, column, part, window)
    _draw_perturbation(axes[0][1], _cut(delta, view[1], foreground), clean, largest)
    shown = {klass for part in (clean, struck) for klass in (*classes_in(part.truth), *classes_in(part.prediction))}
    legend(figure, labels, sorted(shown), False)
    save(figure, path)


def _cut(array: np.ndarray, axis: int, foreground: np.ndarray) -> np.ndarray:
    """The slice that Slice.cut takes."""
    amounts = foreground.sum(axis=tuple(a for a in range(3) if a != axis))
    return turn(array, axis, int(amounts.argmax()) if amounts.any() else array.shape[axis] // 2)


def _draw_perturbation(axis: Any, delta: np.ndarray, part: Slice, largest: float) -> None:
    """Red is brighter than before, blue darker; all of an unchanged image is white."""
    limit = max(largest, 1e-12)
    axis.imshow(delta, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect=part.height / part.width, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    top, bottom, left, right = part.box
    axis.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
    axis.text(
        0.5, -0.02, "red: brighter, blue: darker", transform=axis.transAxes, color=TEXT, ha="center", va="top",
        fontsize=8,
    )  # fmt: skip


def _class_curve(
    records: Sequence[Record], model: str, place: int, attacks: Collection[str] | None, deployed: bool
) -> list[tuple[float, Summary]]:
    """(eps, Dice of one class over the cases where it is defined), from the clean control upwards."""
    values: dict[float, list[float | None]] = {}
    for record in records:
        if record.model == model and record.attack == CLEAN:
            values.setdefault(0.0, []).append(record.clean_scores(deployed)[place])
    for key, worst in worst_scores(records, attacks, deployed).items():
        if key.model == model and key.eps:
            values.setdefault(key.eps, []).append(worst.scores[place])
    summaries = ((eps, summarise(found)) for eps, found in sorted(values.items()))
    return [(eps, summary) for eps, summary in summaries if summary is not None]


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
