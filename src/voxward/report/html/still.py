"""A still picture of one scan, for print and for browsers in which the viewer does not run."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxward.core.labels import LabelSet
from voxward.core.spacing import spacing_of
from voxward.data.orient import orient, orientation
from voxward.report.html.kept import NotShown
from voxward.report.html.strings import say
from voxward.report.html.volumes import Attacked, Shown, perturbation
from voxward.report.palette import DIVERGING
from voxward.report.slices import Picture, Slice, draw, grid_of, legend, turn

_DOTS = 72
_COLUMNS = ("image", "truth", "clean", "attacked", "change")


@dataclass(frozen=True)
class Still:
    """A picture inside the page.

    Attributes:
        key: What the page calls the case.
        source: A data URL.
        alt: What it shows, in words.
    """

    key: str
    source: str
    alt: str


def still_of(key: str, case: str, shown: Shown, labels: LabelSet) -> Still | None:
    """Draw all planes of a case: image, truth, clean and attacked segmentation, and the change.

    Args:
        key: What the page calls the case.
        case: The id of the case.
        shown: Its volumes.
        labels: The classes.

    Returns:
        The picture, of the largest attack; None where a segmentation was not kept.
    """
    for one in sorted(shown.attacked, key=lambda one: -one.struck.eps):
        clean = shown.clean.get(one.struck.system)
        if clean is not None and one.mask is not None and shown.truth is not None:
            figure = _figure(shown, one, (shown.truth, clean, one.mask), labels)
            record = one.record
            dice = record.clean_dice(record.deployed_clean is not None), record.dice(record.deployed is not None)
            words = {"case": case, "system": one.struck.system, "attack": record.attack}
            alt = say("cases", "still_alt", clean=f"{dice[0]:.2f}", attacked=f"{dice[1]:.2f}", **words)
            return Still(key, f"data:image/png;base64,{_png(figure)}", alt)
    return None


def _figure(shown: Shown, one: Attacked, masks: tuple[np.ndarray, np.ndarray, np.ndarray], labels: LabelSet) -> Any:
    """masks: the truth, and what was found without and under attack."""
    axes, flips = orientation(shown.affine)
    spacing = spacing_of(shown.affine)
    i, j, k = (spacing[axis] for axis in axes)
    image, truth, before, after = (orient(array, axes, flips) for array in (shown.image.astype(np.float32), *masks))
    pictures = [Picture(image, truth, mask, (i, j, k), labels) for mask in (before, after)]
    difference = before != after
    found = difference if difference.any() else pictures[0].foreground | pictures[1].foreground
    slices = [[Slice.cut(view, picture, found) for picture in pictures] for view in pictures[0].views]
    change = _change(shown, one)
    limit = 1.0 if change is None else float(np.abs(change).max()) or 1.0
    names = [say("viewer", name) for name in _COLUMNS if name != "change" or change is not None]
    if change is not None:
        names[-1] = f"{names[-1]} (±{limit:.3g})"
        change = orient(change, axes, flips)
    figure, grid = grid_of([row[0] for row in slices], names, "")
    for panels, (one_slice, struck) in zip(grid, slices, strict=True):
        draw(panels[0], "image", one_slice, pictures[0].intensities)
        draw(panels[1], "truth", one_slice, pictures[0].intensities)
        draw(panels[2], "prediction", one_slice, pictures[0].intensities)
        draw(panels[3], "prediction", struck, pictures[0].intensities)
        if change is not None:
            _draw_change(panels[4], turn(change, one_slice.axis, one_slice.index), one_slice, limit)
    classes = sorted({klass for row in slices for part in row for klass in part.classes})
    legend(figure, labels, classes, False)
    return figure


def _draw_change(axis: Any, change: np.ndarray, part: Slice, limit: float) -> None:
    axis.imshow(
        change, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect=part.height / part.width, interpolation="nearest"
    )
    axis.set(xticks=[], yticks=[])
    part.enlarge(axis)


def _change(shown: Shown, one: Attacked) -> np.ndarray | None:
    try:
        return None if one.path is None else perturbation(shown, one.path, one.record)
    except NotShown:
        return None


def _png(figure: Any) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DOTS, pil_kwargs={"optimize": True})
    return base64.b64encode(content.getvalue()).decode("ascii")
