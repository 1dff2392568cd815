"""A contact sheet: one slice of a case under every corruption of a set, a column per severity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from voxward.corruptions.corrupt import Drawn, InapplicableError, apply, draw
from voxward.corruptions.corruption_set import CorruptionSet
from voxward.corruptions.scan import Scan
from voxward.report.style import styled

_INCHES, _DPI = 1.7, 110
_OUTLINE = "#e4572e"


@dataclass(frozen=True, eq=False)
class SheetRequest:
    """What a contact sheet shows.

    Attributes:
        chosen: The set of corruptions.
        names: The corruptions, a row each.
        severities: The severities, a column each; the untouched slice comes first.
        channel: The number of the channel that is drawn.
        case: The id of the case, from which the draws follow.
        seed: The seed of the draws.
    """

    chosen: CorruptionSet
    names: tuple[str, ...]
    severities: tuple[int, ...]
    channel: int
    case: str
    seed: int = 0


@styled()
def corruption_sheet(scan: Scan, asked: SheetRequest) -> Any:
    """Return a figure of one slice of a scan under corruptions, with the outline of the truth.

    Args:
        scan: The scan.
        asked: What is shown.
    """
    from matplotlib.figure import Figure

    shape = len(asked.names), 1 + len(asked.severities)
    rows, columns = (scan.spacing[axis] * scan.shape[axis] for axis in reversed(scan.in_plane))
    height = _INCHES * min(2.0, max(0.5, rows / columns))
    figure = Figure(figsize=(_INCHES * shape[1] + 0.3, (height + 0.3) * shape[0]), dpi=_DPI, layout="constrained")
    axes = figure.subplots(*shape, squeeze=False)
    span = _span(scan.image[asked.channel])
    for row, name in zip(axes, asked.names, strict=True):
        for axis, severity in zip(row, (0, *asked.severities), strict=True):
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"{name} {severity}" if severity else "untouched", fontsize="small")
            try:
                _draw(axis, scan, asked, name, severity, span)
            except InapplicableError as reason:
                axis.set_title(f"{name} {severity}: {reason}", fontsize="xx-small", wrap=True)
    return figure


def _draw(axis: Any, scan: Scan, asked: SheetRequest, name: str, severity: int, span: tuple[float, float]) -> None:
    drawn = draw(asked.chosen, name, severity, scan, seed=asked.seed, case=asked.case)
    found = apply(asked.chosen, drawn, scan)
    number = _slice(scan, drawn, asked.channel)
    height, width = (scan.spacing[one] for one in reversed(scan.in_plane))
    image = _turned(found.image[asked.channel], scan.axial, number)
    axis.imshow(image, cmap="gray", vmin=span[0], vmax=span[1], aspect=height / width, interpolation="nearest")
    if found.label is not None and min(image.shape) > 1:
        mask = _turned(found.foreground, scan.axial, number)
        if mask.any() and not mask.all():
            axis.contour(mask, levels=[0.5], colors=_OUTLINE, linewidths=0.7)


def _slice(scan: Scan, drawn: Drawn, channel: int) -> int:
    """The slice with most of the truth, else the middle one; that of metal where there is some."""
    place = [one["place"][scan.axial] for one in drawn.parameters if "place" in one]
    if place:
        return int(place[0])
    amounts = np.sum(scan.foreground, axis=scan.in_plane)
    return int(amounts.argmax()) if amounts.any() else scan.shape[scan.axial] // 2


def _turned(values: np.ndarray, axial: int, number: int) -> np.ndarray:
    """A slice whose rows run from the top."""
    found: np.ndarray = np.take(values, number, axial).T[::-1]
    return found


def _span(image: np.ndarray) -> tuple[float, float]:
    """From black to white, for all severities alike."""
    low, high = np.percentile(image, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))
