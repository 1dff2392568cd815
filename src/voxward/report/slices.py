"""Slices of a segmented image, as figures draw them: which slice, which way up, how large, in which colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.types import Float3
from voxward.report.palette import FAULTS, IMAGE_BACKGROUND, IMAGE_TEXT, INK, class_colour
from voxward.report.style import PAGE_INCHES

Letters = tuple[str, str, str, str]
"""The patient's directions at the left, right, bottom and top of the picture."""

View = tuple[str, int, Letters]
"""Name, axis across the slices, and directions as a radiologist sees them."""

VIEWS: tuple[View, ...] = (
    ("axial", 2, ("R", "L", "P", "A")),
    ("coronal", 1, ("R", "L", "I", "S")),
    ("sagittal", 0, ("A", "P", "I", "S")),
)


@dataclass(frozen=True)
class Sheet:
    """What a figure of slices is drawn on.

    Attributes:
        background: The colour of the ground.
        text: The colour of letters on it.
        inches: The width of a panel.
        sizes: The sizes of title, headings, and other letters, in points.
        dpi: Pixels per inch where the figure is made of pixels.
    """

    background: str = IMAGE_BACKGROUND
    text: str = IMAGE_TEXT
    inches: float = 3.0
    sizes: tuple[float, float, float] = (13.0, 11.0, 10.0)
    dpi: int = 110


SCREEN = Sheet()


def paper(columns: int) -> Sheet:
    """Return a sheet as wide as the page of a paper.

    Args:
        columns: The number of panels beside each other.
    """
    return Sheet("#ffffff", INK, (PAGE_INCHES - 0.2) / columns, (9.0, 8.0, 7.0), 200)


_OUTLINE_PIXELS = 700
# The foreground's neighbourhood is enlarged where it takes less than this share of the slice's edges, up to a limit.
_ZOOM_BELOW = 0.5
_ZOOM_LEAST = 0.2
_MARGIN = 0.35


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and its segmentations, all of shape (i, j, k) in RAS+ order.

    Attributes:
        image: One channel's intensities.
        truth: True class indices; None where they are not known. Unannotated voxels are drawn as background.
        prediction: Predicted class indices.
        spacing: Size of a voxel along each axis, in mm.
        labels: The classes.

    Raises:
        UserError: The image does not have three axes, or the shapes differ.
    """

    image: np.ndarray
    truth: np.ndarray | None
    prediction: np.ndarray
    spacing: Float3
    labels: LabelSet

    def __post_init__(self) -> None:
        if self.image.ndim != 3:
            raise UserError(f"image must have three axes (i, j, k), got shape {self.image.shape}")
        for name, array in (("prediction", self.prediction), ("truth", self.truth)):
            if array is not None and array.shape != self.image.shape:
                raise UserError(f"{name} must have the image's shape {self.image.shape}, got {array.shape}")
        if self.truth is not None and (unknown := self.labels.ignored(self.truth)) is not None:
            object.__setattr__(self, "truth", np.where(unknown, 0, self.truth))

    @property
    def views(self) -> tuple[View, ...]:
        """The views that are worth drawing: all three of a volume, the only one of a 2D image."""
        return tuple(view for view in VIEWS if self.image.shape[view[1]] == 1)[:1] or VIEWS

    @cached_property
    def foreground(self) -> np.ndarray:
        """Where truth or prediction hold a class other than the background: boolean."""
        found = self.prediction > 0
        return found if self.truth is None else found | (self.truth > 0)

    @cached_property
    def intensities(self) -> tuple[float, float]:
        """The intensity range from black to white: percentiles 1 and 99 of about a million voxels."""
        step = max(1, round((self.image.size / 1e6) ** (1 / 3)))
        sample = self.image[tuple(slice(None, None, step if length > step else 1) for length in self.image.shape)]
        known = sample[np.isfinite(sample)].astype(np.float64)
        if not known.size:
            return 0.0, 1.0
        low, high = np.percentile(known, (1, 99))
        return float(low), float(max(high, low + 1e-6))


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of a picture, turned so that rows run from the top.

    Attributes:
        name: What the reader is told about where it lies.
        letters: The patient's directions at its edges.
        axis: The axis across the slices.
        index: The slice's place along that axis.
        image: Its intensities (rows, columns).
        truth: Its true classes; None where they are not known.
        prediction: Its predicted classes.
        height: Height of a pixel in mm.
        width: Width of a pixel in mm.
        box: (top, bottom, left, right) in pixels of what is worth enlarging.
    """

    name: str
    letters: Letters
    axis: int
    index: int
    image: np.ndarray
    truth: np.ndarray | None
    prediction: np.ndarray
    height: float
    width: float
    box: tuple[int, int, int, int]

    @classmethod
    def cut(cls, view: View, picture: Picture, foreground: np.ndarray) -> Slice:
        """The slice of a view that holds most foreground; the middle one where there is none.

        Args:
            view: One of VIEWS.
            picture: What is cut.
            foreground: The voxels that decide which slice it is: boolean, of the image's shape.
        """
        name, axis, letters = view
        amounts = foreground.sum(axis=tuple(a for a in range(3) if a != axis))
        length = picture.image.shape[axis]
        index = int(amounts.argmax()) if amounts.any() else length // 2
        width, height = (picture.spacing[a] for a in range(3) if a != axis)
        label = f"{name}, slice {index + 1} of {length}" if length > 1 else "image plane"
        truth = None if picture.truth is None else turn(picture.truth, axis, index)
        return cls(
            name=label,
            letters=letters,
            axis=axis,
            index=index,
            image=turn(picture.image, axis, index),
            truth=truth,
            prediction=turn(picture.prediction, axis, index),
            height=height,
            width=width,
            box=_zoom(turn(foreground, axis, index)),
        )

    @property
    def zoomed(self) -> bool:
        """Whether the box is less than the whole slice."""
        return self.box != (0, self.image.shape[0], 0, self.image.shape[1])

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of the whole slice in mm."""
        return self.image.shape[0] * self.height, self.image.shape[1] * self.width

    @property
    def classes(self) -> list[int]:
        """The foreground classes of truth and prediction, ascending."""
        return sorted({*_classes_in(self.truth), *_classes_in(self.prediction)})

    def enlarge(self, axis: Any) -> None:
        """Show only the box on a matplotlib axis."""
        top, bottom, left, right = self.box
        axis.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))


def turn(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice of an array (i, j, k) as a picture (rows, columns).

    Superior or anterior is on top; the patient's right, or front, is on the left.
    """
    # A view: np.take would first copy all of a volume in column-major order.
    plane: np.ndarray = np.moveaxis(array, axis, 0)[index].T[::-1, ::-1]
    return plane


def grid_of(slices: Sequence[Slice], columns: Sequence[str], title: str, sheet: Sheet = SCREEN) -> tuple[Any, Any]:
    """An empty figure with a row of panels per slice.

    Args:
        slices: The slices; each row is as high as its slice needs for one panel's width.
        columns: Headings of the columns.
        title: Heading of the figure; empty: none.
        sheet: What it is drawn on.

    Returns:
        The matplotlib figure and its axes (rows, columns).
    """
    from matplotlib.figure import Figure

    ratios = [min(max(part.size_mm[0] / part.size_mm[1], 0.35), 1.6) for part in slices]
    size = (sheet.inches * len(columns) + 0.2, sheet.inches * sum(ratios) + (1.2 if title else 0.8))
    figure = Figure(figsize=size, dpi=sheet.dpi, layout="constrained", facecolor=sheet.background)
    axes = figure.subplots(len(slices), len(columns), squeeze=False, height_ratios=ratios)
    large, middle, small = sheet.sizes
    if title:
        figure.suptitle(title, color=sheet.text, fontsize=large)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, color=sheet.text, fontsize=middle)
    for row, part in zip(axes, slices, strict=True):
        row[0].set_ylabel(part.name, color=sheet.text, fontsize=small)
    return figure, axes


def draw(axis: Any, what: str, part: Slice, intensities: tuple[float, float]) -> None:
    """Draw a slice on a matplotlib axis.

    Args:
        axis: Where it is drawn.
        what: "image" for the whole slice without classes; "truth", "prediction" or "disagreement" for what is worth
            enlarging, with these classes or faults.
        part: The slice.
        intensities: The intensities that are black and white.
    """
    low, high = intensities
    axis.imshow(part.image, cmap="gray", vmin=low, vmax=high, aspect=part.height / part.width, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    _DRAW[what](axis, part)
    if what != "image":
        part.enlarge(axis)


def legend(figure: Any, labels: LabelSet, classes: Sequence[int], faults: bool, sheet: Sheet = SCREEN) -> None:
    """Add the colours below a figure.

    Args:
        figure: The matplotlib figure.
        labels: The names of the classes.
        classes: The class indices that are seen.
        faults: Whether the colours of the disagreement are seen, too.
        sheet: What the figure is drawn on.
    """
    from matplotlib.patches import Patch

    entries = [Patch(color=class_colour(klass), label=labels.names[klass]) for klass in classes]
    if faults:
        entries += [Patch(color=colour, label=name) for name, colour in FAULTS[: labels.count]]
    if entries:
        figure.legend(
            handles=entries, loc="outside lower center", ncols=min(len(entries), 7), frameon=False,
            labelcolor=sheet.text, fontsize=sheet.sizes[2], handlelength=1.2,
        )  # fmt: skip


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


def _draw_image(axis: Any, part: Slice) -> None:
    """The slice as it is: the directions' letters, and a frame round what the other columns enlarge."""
    left, right, bottom, top = part.letters
    for x, y, letter in ((0.03, 0.5, left), (0.97, 0.5, right), (0.5, 0.03, bottom), (0.5, 0.97, top)):
        style = {"color": IMAGE_TEXT, "fontsize": 9, "ha": "center", "va": "center"}
        box = {"facecolor": IMAGE_BACKGROUND, "alpha": 0.55, "edgecolor": "none", "pad": 1.2}
        axis.text(x, y, letter, transform=axis.transAxes, bbox=box, **style)
    if part.zoomed:
        from matplotlib.patches import Rectangle

        top_row, bottom_row, left_column, right_column = part.box
        corner = (left_column - 0.5, top_row - 0.5)
        size = (right_column - left_column, bottom_row - top_row)
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor=IMAGE_TEXT, linewidth=1, linestyle="--"))


def _outline(axis: Any, label: np.ndarray) -> None:
    """Each class tinted, and outlined along its pixels' edges."""
    # Finer than the panel's own pixels would only cost time.
    fine = max(1, _OUTLINE_PIXELS // max(label.shape))
    # A rim of background closes the outline of a class that touches the border.
    padded = np.pad(label, 1).repeat(fine, 0).repeat(fine, 1)
    y, x = ((np.arange(length) + 0.5) / fine - 1.5 for length in padded.shape)
    for klass in _classes_in(label):
        mask = padded == klass
        axis.contourf(x, y, mask, levels=[0.5, 1.5], colors=[class_colour(klass)], alpha=0.18)
        axis.contour(x, y, mask, levels=[0.5], colors=[class_colour(klass)], linewidths=1.6)


def _draw_truth(axis: Any, part: Slice) -> None:
    assert part.truth is not None
    _outline(axis, part.truth)


def _draw_disagreement(axis: Any, part: Slice) -> None:
    from matplotlib.colors import to_rgba

    assert part.truth is not None
    true, predicted = part.truth > 0, part.prediction > 0
    wrong = true & predicted & (part.truth != part.prediction)
    paint = np.zeros((*true.shape, 4))
    for mask, (_, colour) in zip((true & ~predicted, predicted & ~true, wrong), FAULTS, strict=True):
        paint[mask] = to_rgba(colour, 0.8)
    axis.imshow(paint, aspect=part.height / part.width, interpolation="nearest")


_DRAW: dict[str, Callable[[Any, Slice], None]] = {
    "image": _draw_image,
    "truth": _draw_truth,
    "prediction": lambda axis, part: _outline(axis, part.prediction),
    "disagreement": _draw_disagreement,
}


def _classes_in(label: np.ndarray | None) -> list[int]:
    """The foreground classes of a slice, ascending."""
    return [] if label is None else [int(klass) for klass in np.unique(label) if klass > 0]
