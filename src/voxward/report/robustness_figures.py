"""Pictures of robustness: Dice over eps and over evaluations, and what an attack does to a case. PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.report.chart_figure import write_chart
from voxward.report.palette import DIVERGING, IMAGE_TEXT
from voxward.report.robustness_charts import dice_over_eps, dice_over_evaluations
from voxward.report.slices import Picture, Slice, draw, grid_of, legend, turn
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
        eps: Size of the perturbations; by default the middle one (the larger of two) at which there are attacks.

    Raises:
        UserError: There are no attacks at this eps.
    """
    write_chart(dice_over_evaluations(records, eps), path)


@styled()
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
    axis.imshow(
        delta, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect=part.height / part.width, interpolation="nearest"
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    part.enlarge(axis)
    axis.text(
        0.5, -0.02, "red: brighter, blue: darker", transform=axis.transAxes, color=IMAGE_TEXT, ha="center", va="top",
        fontsize=8,
    )  # fmt: skip
