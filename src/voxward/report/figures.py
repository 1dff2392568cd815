"""Pictures a person can judge: a segmentation over its image, and the curve of a training run. PNG files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.report.palette import GRID, LINES, MARK
from voxward.report.slices import Picture, Slice, draw, grid_of, legend
from voxward.report.style import save, styled


@styled()
def overlay_figure(picture: Picture, path: Path, title: str) -> None:
    """Draw a segmentation over its image, in the slice of each view that holds most foreground, as PNG.

    Rows are axial, coronal and sagittal views (a 2D image has only its own). Columns are the image, the outlines of
    truth and prediction, and where they disagree; without a truth only image and prediction. The patient's right is
    on the left. A small target is enlarged, and the first column shows from where.

    Args:
        picture: The image and its segmentations.
        path: The file.
        title: Heading of the figure.
    """
    slices = [Slice.cut(view, picture, picture.foreground) for view in picture.views]
    columns = ["image", "prediction"] if picture.truth is None else ["image", "truth", "prediction", "disagreement"]
    figure, axes = grid_of(slices, columns, title)
    for row, part in zip(axes, slices, strict=True):
        for axis, column in zip(row, columns, strict=True):
            draw(axis, column, part, picture.intensities)
    shown = sorted({klass for part in slices for klass in part.classes})
    legend(figure, picture.labels, shown, picture.truth is not None)
    save(figure, path)


@styled()
def training_curve(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw losses, validation Dice and learning rate against the step, as PNG.

    Args:
        rows: The rows of a training log, each with step, training_loss, validation_loss, validation_dice and
            learning_rate. Without rows the axes stay empty.
        path: The file.

    Raises:
        UserError: A row lacks one of these.
    """
    needed = ("step", "training_loss", "validation_loss", "validation_dice", "learning_rate")
    for row in rows:
        if missing := [name for name in needed if name not in row]:
            raise UserError(f"a row of the training log needs {', '.join(needed)}; missing: {', '.join(missing)}")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7), dpi=120, layout="constrained")
    losses, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.5))
    column = {name: [row[name] for row in rows] for name in needed}
    # A short log is seen by its points, a long one by its line.
    style: dict[str, Any] = {"marker": "o" if len(rows) < 40 else "", "markersize": 3, "linewidth": 1.5}
    losses.plot(column["step"], column["training_loss"], label="training", color=LINES[0].light, **style)
    losses.plot(column["step"], column["validation_loss"], label="validation", color=LINES[1].light, **style)
    losses.legend(frameon=False)
    dice.plot(column["step"], column["validation_dice"], color=LINES[1].light, **style)
    dice.set_ylim(0, 1)
    _mark_best(dice, column["step"], column["validation_dice"])
    rate.step(column["step"], column["learning_rate"], where="post", color=MARK)
    if column["learning_rate"] and min(column["learning_rate"]) > 0:
        rate.set_yscale("log")
    for axis, name in ((losses, "loss"), (dice, "validation Dice"), (rate, "learning rate")):
        axis.set_ylabel(name)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    rate.set_xlabel("step")
    save(figure, path)


def _mark_best(axis: Any, steps: Sequence[float], values: Sequence[float]) -> None:
    known = [(value, step) for value, step in zip(values, steps, strict=True) if math.isfinite(value)]
    if known:
        value, step = max(known)
        axis.axhline(value, color=GRID, linewidth=0.8, linestyle="--", zorder=0)
        axis.plot([step], [value], marker="*", markersize=11, color=LINES[1].light, linestyle="")
        axis.set_title(f"best {value:.3f} at step {step:.0f}", fontsize=9, loc="right")
