"""The colours and line styles of all figures and of the page, in one place.

The lines have the hues of Okabe and Ito (2008), which people with the common kinds of colour blindness tell apart.
Where a hue is too pale for a background, it is darker or lighter there, so that every line has a contrast of at
least 3 to 1. No colour carries a meaning alone: lines that share a colour differ in their dashes, and each has a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Colour:
    """A colour on a light and on a dark background, as #rrggbb.

    Attributes:
        name: What people call it.
        light: On a light background, as figures have it.
        dark: On a dark background.
    """

    name: str
    light: str
    dark: str


LINES = (
    Colour("blue", "#0072b2", "#2f8fd0"),
    Colour("vermilion", "#d55e00", "#d55e00"),
    Colour("green", "#009e73", "#009e73"),
    Colour("purple", "#cc79a7", "#cc79a7"),
    Colour("grey", "#4d5966", "#c3ccd5"),
    Colour("orange", "#b87f00", "#e69f00"),
    Colour("sky blue", "#2e93cf", "#8ccff5"),
    Colour("yellow", "#857b00", "#f0e442"),
)
"""Lines of charts, in the order in which they are used."""

NEUTRAL = 4
"""The place of grey among LINES, for lines that are only compared with."""

DASHES: tuple[tuple[float, ...], ...] = ((), (5, 3), (1.5, 2.5), (6, 2.5, 1.5, 2.5), (10, 3), (10, 3, 1.5, 3, 1.5, 3))
"""Lengths of dashes and gaps in units of a line's width of 1.5 pixels; the first one is a solid line."""

CLASSES = ("#4fe07a", "#d58bff", "#ffb347", "#35d8d8", "#ff8fc7", "#c8e05a", "#9fb4ff", "#d9a679")
"""Classes of a segmentation over a grey image; none resembles a colour of FAULTS."""

FAULTS = (
    ("missed (true, not predicted)", "#2f8cff"),
    ("invented (predicted, not true)", "#ff3b30"),
    ("wrong class", "#ffe14d"),
)
"""How a segmentation disagrees with the truth, and the colour of that."""

IMAGE_BACKGROUND, IMAGE_TEXT = "#14161a", "#e8eaed"
"""What lies round images: dark, so that their greys are seen as they are."""

DIVERGING = "RdBu_r"
"""The matplotlib colour map of signed changes: red is brighter than before, blue darker, white unchanged."""

GRID, MARK, FAINT, INK = "#888888", "#333333", "#dddddd", "#1b2430"
"""Lines that only guide the eye; marks that have no hue; marks of what is not used; text."""


def line_colour(number: int) -> Colour:
    """Return the colour of a line; there are as many as LINES has.

    Args:
        number: The place of the line among all lines, from 0.
    """
    return LINES[number % len(LINES)]


def class_colour(klass: int) -> str:
    """Return the colour of a class over an image.

    Args:
        klass: The index of the class, from 1.
    """
    return CLASSES[(klass - 1) % len(CLASSES)]


def palette_css() -> str:
    """Return the colours as custom properties of CSS, for light and for dark schemes: --line-0, --class-1, ..."""
    light = {f"line-{n}": colour.light for n, colour in enumerate(LINES)}
    dark = {f"line-{n}": colour.dark for n, colour in enumerate(LINES)}
    both = {f"class-{n}": colour for n, colour in enumerate(CLASSES, 1)}
    return (
        f":root {{ {_properties(light | both)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_properties(dark)} }} }}\n"
        f"@media print {{ :root {{ {_properties(light)} }} }}\n"
    )


def palette_data() -> dict[str, Any]:
    """Return what scripts need of the palette, as plain data."""
    return {
        "lines": len(LINES),
        "neutral": NEUTRAL,
        "dashes": [list(dash) for dash in DASHES],
        "classes": list(CLASSES),
        "faults": [{"name": name, "colour": colour} for name, colour in FAULTS],
    }


def _properties(values: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in values.items())
