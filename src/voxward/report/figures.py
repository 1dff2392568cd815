"""Pictures a person can judge: a segmentation over its image, and the curve of a training run. PNG files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.core.files import atomic_write
from voxward.core.labels import LabelSet
from voxward.core.types import Float3

# (name, axis across the slices, directions at the left, right, bottom and top) as a radiologist sees them.
VIEWS = (
    ("axial", 2, ("R", "L", "P", "A")),
    ("coronal", 1, ("R", "L", "I", "S")),
    ("sagittal", 0, ("A", "P", "I", "S")),
)
# Classes in colours that none of the disagreement's resembles.
_COLOURS = ("#4fe07a", "#d58bff", "#ffb347", "#35d8d8", "#ff8fc7", "#c8e05a", "#9fb4ff", "#d9a679")
_FAULTS = (
    ("missed (true, not predicted)", "#2f8cff"),
    ("invented (predicted, not true)", "#ff3b30"),
    ("wrong class", "#ffe14d"),
)
_PANEL_INCHES = 3.0
_OUTLINE_PIXELS = 700
# The foreground's neighbourhood is enlarged where it takes less than this share of the slice's edges, up to a limit.
_ZOOM_BELOW = 0.5
_ZOOM_LEAST = 0.2
_MARGIN = 0.35
_BACKGROUND, TEXT = "#14161a", "#e8eaed"


def overlay_figure(
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    spacing: Float3,
    labels: LabelSet,
    path: Path,
    title: str,
) -> None:
    """Draw a segmentation over its image, in the slice of each view that holds most foreground.

    image: one channel (i, j, k), truth and prediction: class indices of that shape, all in RAS+ order; spacing in mm.
    Rows are axial, coronal and sagittal views (a 2D image has only its own), columns the image, the outlines of truth
    and prediction, and where they disagree. The patient's right is on the left. A small target is enlarged, and the
    first column shows from where. Written to `path` as PNG. Raises ValueError when the shapes differ.
    """
    for name, array in (("prediction", prediction), ("truth", truth)):
        if array is not None and array.shape != image.shape:
            raise UserError(f"{name} must have the image's shape {image.shape}, got {array.shape}")
    if image.ndim != 3:
        raise UserError(f"image must have three axes (i, j, k), got shape {image.shape}")
    foreground = prediction > 0 if truth is None else (prediction > 0) | (truth > 0)
    views = flat_view(image) or VIEWS
    slices = [Slice.cut(view, image, truth, prediction, foreground, spacing) for view in views]
    columns = ["image", "prediction"] if truth is None else ["image", "truth", "prediction", "disagreement"]
    figure, axes = grid_of(slices, columns, title)
    window = window_of(image)
    for row, part in zip(axes, slices, strict=True):
        for axis, column in zip(row, columns, strict=True):
            draw(axis, column, part, window)
    shown = sorted({klass for part in slices for klass in (*classes_in(part.truth), *classes_in(part.prediction))})
    legend(figure, labels, shown, truth is not None)
    save(figure, path)


def training_curve(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw losses, validation Dice and learning rate against the step, from the rows of a training log, as PNG.

    Each row holds step, training_loss, validation_loss, validation_dice and learning_rate. Raises ValueError for a
    row that lacks one; without rows the axes stay empty.
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
    losses.plot(column["step"], column["training_loss"], label="training", color="#1f77b4", **style)
    losses.plot(column["step"], column["validation_loss"], label="validation", color="#d9541e", **style)
    losses.legend(frameon=False)
    dice.plot(column["step"], column["validation_dice"], color="#d9541e", **style)
    dice.set_ylim(0, 1)
    _mark_best(dice, column["step"], column["validation_dice"])
    rate.step(column["step"], column["learning_rate"], where="post", color="#444444")
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
        axis.axhline(value, color="#888888", linewidth=0.8, linestyle="--", zorder=0)
        axis.plot([step], [value], marker="*", markersize=11, color="#d9541e", linestyle="")
        axis.set_title(f"best {value:.3f} at step {step:.0f}", fontsize=9, loc="right")


def classes_in(label: np.ndarray | None) -> list[int]:
    """The foreground classes of a slice, ascending."""
    return [] if label is None else [int(klass) for klass in np.unique(label) if klass > 0]


Letters = tuple[str, str, str, str]  # at the left, right, bottom and top of the picture
View = tuple[str, int, Letters]


@dataclass(frozen=True, eq=False)
class Slice:
    """One view's slice, turned so that rows run from the top of the picture; `height` and `width` of a pixel in mm.

    `box` is (top, bottom, left, right) in pixels of what is worth seeing enlarged.
    """

    name: str
    letters: Letters
    image: np.ndarray
    truth: np.ndarray | None
    prediction: np.ndarray
    height: float
    width: float
    box: tuple[int, int, int, int]

    @classmethod
    def cut(
        cls,
        view: View,
        image: np.ndarray,
        truth: np.ndarray | None,
        prediction: np.ndarray,
        foreground: np.ndarray,
        spacing: Float3,
    ) -> Slice:
        """The slice across the view's axis with most foreground (the middle one where there is none); spacing in mm."""
        name, axis, letters = view
        amounts = foreground.sum(axis=tuple(a for a in range(3) if a != axis))
        index = int(amounts.argmax()) if amounts.any() else image.shape[axis] // 2
        turned = [None if array is None else turn(array, axis, index) for array in (image, truth, prediction)]
        picture, true, predicted = turned
        assert picture is not None
        assert predicted is not None
        width, height = (spacing[a] for a in range(3) if a != axis)
        box = _zoom(turn(foreground, axis, index))
        label = f"{name}, slice {index + 1} of {image.shape[axis]}" if image.shape[axis] > 1 else "image plane"
        return cls(label, letters, picture, true, predicted, height, width, box)

    @property
    def zoomed(self) -> bool:
        """Whether the box is less than the whole slice."""
        return self.box != (0, self.image.shape[0], 0, self.image.shape[1])

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of the whole slice."""
        return self.image.shape[0] * self.height, self.image.shape[1] * self.width


def flat_view(image: np.ndarray) -> tuple[View, ...]:
    """The only view of a 2D image; nothing for a volume."""
    return tuple(view for view in VIEWS if image.shape[view[1]] == 1)[:1]


def turn(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """The slice as a picture: superior or anterior on top; the patient's right, or front, on the left."""
    # A view: np.take would first copy all of a volume in column-major order.
    plane: np.ndarray = np.moveaxis(array, axis, 0)[index].T[::-1, ::-1]
    return plane


def _zoom(foreground: np.ndarray) -> tuple[int, int, int, int]:
    """(top, bottom, left, right): round a small foreground, in the slice's proportions; else the whole slice."""
    rows, columns = (np.flatnonzero(foreground.any(axis)) for axis in (1, 0))
    height, width = foreground.shape
    whole = (0, height, 0, width)
    if not rows.size:
        return whole
    share = max(np.ptp(rows) + 1 + 2, (np.ptp(columns) + 1 + 2) * height / width) / height * (1 + 2 * _MARGIN)
    if share >= _ZOOM_BELOW:
        return whole
    share = max(share, _ZOOM_LEAST)
    sides = []
    for found, length in ((rows, height), (columns, width)):
        extent = math.ceil(share * length)
        start = min(max(int(found[0] + found[-1] + 1 - extent) // 2, 0), length - extent)
        sides += [start, start + extent]
    return sides[0], sides[1], sides[2], sides[3]


def window_of(image: np.ndarray) -> tuple[float, float]:
    """Percentiles 1 and 99 of about a million voxels, over all of the image."""
    step = max(1, round((image.size / 1e6) ** (1 / 3)))
    sample = image[tuple(slice(None, None, step if length > step else 1) for length in image.shape)]
    low, high = np.percentile(sample[np.isfinite(sample)].astype(np.float64), (1, 99))
    return float(low), float(max(high, low + 1e-6))


def grid_of(slices: Sequence[Slice], columns: Sequence[str], title: str) -> tuple[Any, Any]:
    """An empty figure and its axes (rows, columns), each row as high as its slice is for one panel's width."""
    from matplotlib.figure import Figure

    ratios = [min(max(part.size_mm[0] / part.size_mm[1], 0.35), 1.6) for part in slices]
    size = (_PANEL_INCHES * len(columns) + 0.3, _PANEL_INCHES * sum(ratios) + 1.2)
    figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor=_BACKGROUND)
    axes = figure.subplots(len(slices), len(columns), squeeze=False, height_ratios=ratios)
    figure.suptitle(title, color=TEXT, fontsize=13)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, color=TEXT, fontsize=11)
    for row, part in zip(axes, slices, strict=True):
        row[0].set_ylabel(part.name, color=TEXT, fontsize=10)
    return figure, axes


def draw(axis: Any, column: str, part: Slice, window: tuple[float, float]) -> None:
    """Draw a slice as the column `column` (one of _DRAW) has it."""
    low, high = window
    axis.imshow(part.image, cmap="gray", vmin=low, vmax=high, aspect=part.height / part.width, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    _DRAW[column](axis, part)
    if column != "image":
        top, bottom, left, right = part.box
        axis.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))


def _draw_image(axis: Any, part: Slice) -> None:
    """The slice as it is: the directions' letters, and a frame round what the other columns enlarge."""
    left, right, bottom, top = part.letters
    for x, y, letter in ((0.03, 0.5, left), (0.97, 0.5, right), (0.5, 0.03, bottom), (0.5, 0.97, top)):
        style = {"color": TEXT, "fontsize": 9, "ha": "center", "va": "center"}
        box = {"facecolor": _BACKGROUND, "alpha": 0.55, "edgecolor": "none", "pad": 1.2}
        axis.text(x, y, letter, transform=axis.transAxes, bbox=box, **style)
    if part.zoomed:
        from matplotlib.patches import Rectangle

        top_row, bottom_row, left_column, right_column = part.box
        corner = (left_column - 0.5, top_row - 0.5)
        size = (right_column - left_column, bottom_row - top_row)
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor=TEXT, linewidth=1, linestyle="--"))


def _outline(axis: Any, label: np.ndarray) -> None:
    """Each class tinted, and outlined along its pixels' edges."""
    # Finer than the panel's own pixels would only cost time.
    fine = max(1, _OUTLINE_PIXELS // max(label.shape))
    # A rim of background closes the outline of a class that touches the border.
    padded = np.pad(label, 1).repeat(fine, 0).repeat(fine, 1)
    y, x = ((np.arange(length) + 0.5) / fine - 1.5 for length in padded.shape)
    for klass in classes_in(label):
        mask = padded == klass
        axis.contourf(x, y, mask, levels=[0.5, 1.5], colors=[_colour(klass)], alpha=0.18)
        axis.contour(x, y, mask, levels=[0.5], colors=[_colour(klass)], linewidths=1.6)


def _draw_truth(axis: Any, part: Slice) -> None:
    assert part.truth is not None
    _outline(axis, part.truth)


def _draw_disagreement(axis: Any, part: Slice) -> None:
    from matplotlib.colors import to_rgba

    assert part.truth is not None
    true, predicted = part.truth > 0, part.prediction > 0
    wrong = true & predicted & (part.truth != part.prediction)
    paint = np.zeros((*true.shape, 4))
    for mask, (_, colour) in zip((true & ~predicted, predicted & ~true, wrong), _FAULTS, strict=True):
        paint[mask] = to_rgba(colour, 0.8)
    axis.imshow(paint, aspect=part.height / part.width, interpolation="nearest")


_DRAW: dict[str, Callable[[Any, Slice], None]] = {
    "image": _draw_image,
    "truth": _draw_truth,
    "prediction": lambda axis, part: _outline(axis, part.prediction),
    "disagreement": _draw_disagreement,
}


def _colour(klass: int) -> str:
    return _COLOURS[(klass - 1) % len(_COLOURS)]


def legend(figure: Any, labels: LabelSet, classes: Sequence[int], faults: bool) -> None:
    """The classes that are seen, and the colours of the disagreement."""
    from matplotlib.patches import Patch

    entries = [Patch(color=_colour(klass), label=labels.names[klass]) for klass in classes]
    if faults:
        entries += [Patch(color=colour, label=name) for name, colour in _FAULTS[: labels.count]]
    columns = min(len(entries), 7)
    figure.legend(
        handles=entries, loc="outside lower center", ncols=max(columns, 1), frameon=False, labelcolor=TEXT, fontsize=10
    )


def save(figure: Any, path: Path) -> None:
    """Write a PNG or an SVG, by the path's suffix, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, format=path.suffix[1:], facecolor=figure.get_facecolor())
