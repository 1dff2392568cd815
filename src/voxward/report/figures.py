"""Pictures a person can judge: a segmentation over its image, and the curve of a training run. PNG files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.files import atomic_write
from voxward.core.labels import LabelSet
from voxward.core.types import Float3

# (name, axis across the slices, letters left-right and bottom-top) as a radiologist sees them.
_VIEWS = (("axial", 2, "RL", "PA"), ("coronal", 1, "RL", "IS"), ("sagittal", 0, "AP", "IS"))
_COLOURS = ("#ff4b4b", "#3fd0ff", "#ffd23f", "#5be37d", "#c77dff", "#ff9f1c", "#f78fb3", "#2ec4b6", "#b8de6f", "#8da9ff")
_FAULTS = (("missed", "#3fa7ff"), ("invented", "#ff5a36"), ("wrong class", "#ffe14d"))
_PANEL_INCHES = 3.0
# The foreground's neighbourhood is enlarged where it takes less than this share of the slice's edges.
_ZOOM_BELOW = 0.5
_MARGIN = 0.35
_BACKGROUND, _TEXT = "#14161a", "#e8eaed"


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
            raise ValueError(f"{name} must have the image's shape {image.shape}, got {array.shape}")
    if image.ndim != 3:
        raise ValueError(f"image must have three axes (i, j, k), got shape {image.shape}")
    foreground = prediction > 0 if truth is None else (prediction > 0) | (truth > 0)
    views = _flat_view(image) or _VIEWS
    slices = [_Slice.cut(view, image, truth, prediction, foreground, spacing) for view in views]
    columns = ["image", "prediction"] if truth is None else ["image", "truth", "prediction", "disagreement"]
    figure, axes = _grid(slices, columns, title)
    window = _window(image)
    for row, part in zip(axes, slices, strict=True):
        for axis, column in zip(row, columns, strict=True):
            _draw(axis, column, part, window)
    _legend(figure, labels, foreground_classes(truth, prediction), truth is not None)
    _save(figure, path)


def training_curve(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw losses, validation Dice and learning rate against the step, from the rows of a training log, as PNG.

    Each row holds step, training_loss, validation_loss, validation_dice and learning_rate. Raises ValueError for a
    row that lacks one; without rows the axes stay empty.
    """
    needed = ("step", "training_loss", "validation_loss", "validation_dice", "learning_rate")
    for row in rows:
        if missing := [name for name in needed if name not in row]:
            raise ValueError(f"a row of the training log needs {', '.join(needed)}; missing: {', '.join(missing)}")
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
    _save(figure, path)


def _mark_best(axis: Any, steps: Sequence[float], values: Sequence[float]) -> None:
    known = [(value, step) for value, step in zip(values, steps, strict=True) if math.isfinite(value)]
    if known:
        value, step = max(known)
        axis.axhline(value, color="#888888", linewidth=0.8, linestyle="--", zorder=0)
        axis.plot([step], [value], marker="*", markersize=11, color="#d9541e", linestyle="")
        axis.set_title(f"best {value:.3f} at step {step:.0f}", fontsize=9, loc="right")


def foreground_classes(truth: np.ndarray | None, prediction: np.ndarray) -> list[int]:
    """The foreground classes that either map holds, ascending."""
    found = set(np.unique(prediction)) | (set() if truth is None else set(np.unique(truth)))
    return sorted(int(klass) for klass in found if klass > 0)


View = tuple[str, int, str, str]


@dataclass(frozen=True, eq=False)
class _Slice:
    """One view's slice, turned so that rows run from the top of the picture; `height` and `width` of a pixel in mm.

    `box` is (top, bottom, left, right) in pixels of what is worth seeing enlarged.
    """

    name: str
    letters: tuple[str, str]
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
    ) -> _Slice:
        name, axis, across, along = view
        amounts = foreground.sum(axis=tuple(a for a in range(3) if a != axis))
        index = int(amounts.argmax()) if amounts.any() else image.shape[axis] // 2
        turned = [None if array is None else _turn(array, axis, index) for array in (image, truth, prediction)]
        picture, true, predicted = turned
        assert picture is not None
        assert predicted is not None
        width, height = (spacing[a] for a in range(3) if a != axis)
        box = _zoom(_turn(foreground, axis, index))
        label = f"{name}, slice {index + 1} of {image.shape[axis]}" if image.shape[axis] > 1 else "image plane"
        return cls(label, (across, along), picture, true, predicted, height, width, box)

    @property
    def zoomed(self) -> bool:
        return self.box != (0, self.image.shape[0], 0, self.image.shape[1])

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of the whole slice."""
        return self.image.shape[0] * self.height, self.image.shape[1] * self.width


def _flat_view(image: np.ndarray) -> tuple[View, ...]:
    """The only view of a 2D image; nothing for a volume."""
    return tuple(view for view in _VIEWS if image.shape[view[1]] == 1)[:1]


def _turn(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """The slice as a picture: superior or anterior on top; the patient's right, or front, on the left."""
    # RAS+ order runs to the left of the picture's right: the sagittal j axis is turned to have the face on the left.
    plane = np.take(array, index, axis=axis).T[::-1]
    turned: np.ndarray = plane[:, ::-1]
    return turned
