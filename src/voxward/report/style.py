"""How all figures look, and how they are written: for a column of a paper, the same bytes from the same figures."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from voxward.core.files import atomic_write
from voxward.report.palette import INK

COLUMN_INCHES, PAGE_INCHES = 3.5, 7.2
"""The width of a column of a paper, and of its whole page."""
FORMATS = ("svg", "pdf")
"""What a paper takes: lines and letters of any size."""
_DPI = 200
# Matplotlib brings DejaVu Sans. Where a reader's machine lacks it, Verdana has nearly the same widths.
_SANS = ("DejaVu Sans", "Verdana", "Arial", "Helvetica")
# What DejaVu Sans has no letters for, as far as such a font is installed.
_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS", "Nirmala UI",
    "Noto Sans Devanagari", "Noto Sans Thai",
)  # fmt: skip
_STYLE: dict[str, Any] = {
    "font.sans-serif": _SANS,
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "figure.titlesize": 9,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False, "legend.handlelength": 3,
    "lines.linewidth": 1.5, "lines.markersize": 3, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.25,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK,
    # A name of a class or a system is no formula.
    "text.parse_math": False, "axes.unicode_minus": False,
    "figure.dpi": _DPI, "savefig.dpi": "figure",
    # Text stays text: it can be searched, and edited in a drawing program.
    "svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "voxward",
}  # fmt: skip
# How matplotlib says that no font has a character, with its number.
_NO_GLYPH = r"Glyph (\d+) .* missing from"
_UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and write figures in the style of voxward, whatever the settings of matplotlib are.

    Example:
        >>> @styled()
        ... def curve_figure(path): ...
    """
    from matplotlib import style

    with style.context(["default", _STYLE | {"font.family": ["sans-serif", *_installed()]}]):
        yield


def save(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as PNG, SVG or PDF, by the path's suffix. A file that is there is replaced at the end.

    Args:
        figure: The figure.
        path: The file. The same figure gives the same bytes: no date is inside.
    """
    with atomic_write(path) as unfinished:
        write(figure, unfinished, path.suffix[1:])


@styled()
def write(figure: Any, target: Any, form: str) -> None:
    """Write a matplotlib figure to a path or a binary stream.

    Args:
        figure: The figure.
        target: Where it goes.
        form: `png`, `svg` or `pdf`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with warnings.catch_warnings(record=True) as found:
        warnings.filterwarnings("always", _NO_GLYPH)
        figure.savefig(target, format=form, facecolor=figure.get_facecolor(), metadata=_UNDATED[form])
    letters = {chr(int(glyph[1])) for one in found if (glyph := re.match(_NO_GLYPH, str(one.message)))}
    if letters and form != "svg":  # there the text stays text, and the reader's machine has its own fonts
        _warn_of_boxes(letters)
    for one in found:
        if not re.match(_NO_GLYPH, str(one.message)):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def shortened(name: str, most: int) -> str:
    """Return a name that fits beside a chart: its middle is left out where it is too long.

    Args:
        name: The name.
        most: The number of characters that fit, at least 5.
    """
    line = " ".join(name.split())
    if len(line) <= most:
        return line
    end = (most - 1) // 2
    return f"{line[: most - 1 - end]}…{line[-end:]}"


def _warn_of_boxes(letters: set[str]) -> None:
    """Say once which characters no font here can draw."""
    warnings.warn(
        f"no font on this machine has {''.join(sorted(letters)[:20])!r}, so that figures (PNG, PDF) show boxes "
        "instead. Install one, such as Noto Sans CJK; SVG files and pages are not concerned.", stacklevel=2,
    )  # fmt: skip


@cache
def _installed() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    names = set(fontManager.get_font_names())
    return tuple(name for name in _SCRIPTS if name in names)
