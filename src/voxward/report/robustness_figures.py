"""Pictures of robustness: Dice over eps and over evaluations, and what an attack does to a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.report.chart_figure import write_chart
from voxward.report.html.strings import STRINGS
from voxward.report.palette import DIVERGING
from voxward.report.robustness_charts import dice_over_eps, dice_over_evaluations
from voxward.report.slices import Picture, Slice, draw, grid_of, legend, paper, turn
from voxward.report.style import save, styled
from voxward.robustness.record import Record


def curves_figure(
    path: Path,
    records: Sequence[Record],
    ensembles: Mapping[str, tuple[str, ...]] | None = None,
    deployed: bool = False,
) -> None:
    """Draw the worst-case Dice over eps: a panel for the mean and one per class, a line per model.

    Args:
        path: The file: PNG, SVG or PDF, by its suffix.
        records: Records of one or several models.
        ensembles: Sets of attacks by name; the last one is drawn, as the strongest comes last. None: all attacks.
        deployed: Whether the Dice is that of the written files.

    Raises:
        UserError: There are no records, or a model has no clean control.
    """
    write_chart(dice_over_eps(records, ensembles, deployed), path)


def iterations_figure(path: Path, records: Sequence[Record], eps: float | None = None) -> None:
    """Draw the lowest Dice over an attack's evaluations: a panel per model, a line per attack with a history.

    Args:
        path: The file: PNG, SVG or PDF, by its suffix.
        records: Records of one or several models.
        eps: Size of the perturbations; by default the largest one at which there are attacks.

    Raises:
        UserError: There are no attacks at this eps.
    """
    write_chart(dice_over_evaluations(records, eps), path)


def panel_figure(path: Path, clean: Picture, attacked: Picture, title: str, unit: str = "") -> None:
    """Draw an attack on a case in the axial slice with the most foreground; see `attack_panel_figure`.

    Args:
        path: The file: PNG, SVG or PDF, by its suffix.
        clean: The image, its truth and its segmentation.
        attacked: The adversarial image and its segmentation, with the same truth.
        title: Heading of the figure.
        unit: The unit of the intensities, such as HU; empty where it is not known.

    Raises:
        UserError: The shapes differ, or there is no truth.
    """
    save(attack_panel_figure(clean, attacked, title, unit), path)


@styled()
def attack_panel_figure(clean: Picture, attacked: Picture, title: str, unit: str = "") -> Any:
    """Return a figure of an attack on a case in the axial slice with the most foreground.

    Columns are the image, the perturbation (signed, in colours that span its largest value over the volume), the
    truth, and the segmentations without and under attack.

    Args:
        clean: The image, its truth and its segmentation.
        attacked: The adversarial image and its segmentation, with the same truth.
        title: Heading of the figure; empty: none.
        unit: The unit of the intensities, such as HU; empty where it is not known.

    Returns:
        The matplotlib figure, as wide as the page of a paper.

    Raises:
        UserError: The shapes differ, or there is no truth.
    """
    if attacked.image.shape != clean.image.shape:
        raise UserError(f"both images must have the shape {clean.image.shape}, got {attacked.image.shape}")
    if clean.truth is None:
        raise UserError("a panel needs the truth")
    foreground = clean.truth > 0 if (clean.truth > 0).any() else clean.foreground | (attacked.prediction > 0)
    before, after = (Slice.cut(clean.views[0], picture, foreground) for picture in (clean, attacked))
    delta = attacked.image.astype(np.float64) - clean.image.astype(np.float64)
    words = STRINGS["charts"]
    columns = [words[f"panel_{name}"] for name in ("image", "change", "truth", "clean", "attacked")]
    sheet = paper(len(columns))
    figure, axes = grid_of([before], columns, title, sheet)
    image, change, truth, segmentation, struck = axes[0]
    draw(image, "image", before, clean.intensities)
    largest = float(np.abs(delta[np.isfinite(delta)]).max(initial=0.0))
    _draw_change(change, turn(delta, before.axis, before.index), before, largest, words[f"panel_{unit or 'raw'}"])
    draw(truth, "truth", before, clean.intensities)
    draw(segmentation, "prediction", before, clean.intensities)
    draw(struck, "prediction", after, clean.intensities)
    legend(figure, clean.labels, sorted({*before.classes, *after.classes}), False, sheet)
    return figure


def _draw_change(axis: Any, delta: np.ndarray, part: Slice, largest: float, unit: str) -> None:
    """A signed change and the scale of its colours; all of an unchanged image is white."""
    limit = largest or 1.0
    shown = axis.imshow(
        delta, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect=part.height / part.width, interpolation="nearest"
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    part.enlarge(axis)
    bar = axis.figure.colorbar(shown, cax=axis.inset_axes((0.0, -0.12, 1.0, 0.05)), orientation="horizontal")
    ends = (-limit, 0.0, limit)
    bar.set_ticks(ends, labels=[f"{value:+.3g}" if value else "0" for value in ends])
    bar.ax.tick_params(labelsize="small", length=2)
    bar.ax.set_xlabel(unit, fontsize="small")
    bar.outline.set_linewidth(0.5)
