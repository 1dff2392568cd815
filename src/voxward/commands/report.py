"""voxward report: one page on what was measured, which needs no other file and no network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from voxward.core.choices import Look
from voxward.core.errors import UserError
from voxward.report.html.write import PAGE, WrittenPage, write_page

_TOLD = 5


def write_report(
    folders: Sequence[Path | str] | Path | str,
    *,
    out: Path | str = PAGE,
    card: Path | str | None = None,
    figures: Path | str | None = None,
    look: Look = Look(),
    overwrite: bool = False,
) -> WrittenPage:
    """Write one HTML page on what was measured: a verdict in plain words, tables, curves, scans and their trust.

    The page opens from disk in any browser and loads nothing from elsewhere. It says what is missing: damaged or
    foreign files, failed checks, and what was not measured.

    Args:
        folders: Folders that `attack`, `train`, `harden`, `search`, `cv` or `suite` wrote, in any mix.
        out: The HTML file. Volumes that are not inside it go into a folder beside it, such as `report-files`.
        card: A Markdown file for a model card of the systems that were attacked, with the fields that Hugging Face
            reads; None: no card.
        figures: A folder for every chart and panel of the page as SVG and PDF, in the size of a paper's columns; None:
            none.
        look: The title, which volumes are inside the page, where the dataset lies if it was moved, and the eps at
            which the courses of the attacks are drawn, as `voxward.Look(title=..., embed=..., data=..., eps=...)`.
        overwrite: Replace a file that voxward did not write, or that was edited since.

    Returns:
        The page: its `path`, the `problems` that it names as missing, and whether it is `empty`.

    Raises:
        UserError: A folder does not exist, `look` is no `Look` or names no dataset, `out` is no HTML file, `card` is no
            Markdown file or about no attack, there is nothing to draw, or a file must not be replaced.

    Warns:
        UserWarning: Something is missing on the page: one warning for each of the first problems, and one for the rest.

    Example:
        >>> import voxward
        >>> page = voxward.write_report("run/attack", out="report.html")  # doctest: +SKIP
        >>> page.path  # doctest: +SKIP
    """
    if not isinstance(look, Look):
        raise UserError(f"look must be a voxward.Look(title=..., embed=..., data=..., eps=...), got {look!r}")
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    if not given:
        raise UserError(
            "folders must name at least one folder that voxward attack, train, harden, search, cv or suite wrote"
        )
    target = Path(out)
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"out must be a file that ends with .html, got {out}")
    sheet = None if card is None else Path(card)
    if sheet is not None and sheet.suffix.lower() not in (".md", ".markdown"):
        raise UserError(f"card must be a file that ends with .md, got {card}")
    drawn = None if figures is None else Path(figures)
    page = write_page([Path(folder) for folder in given], target, look, overwrite, sheet, drawn)
    _warn(page.problems)
    return page


def _warn(problems: Sequence[str]) -> None:
    more = len(problems) - _TOLD
    for text in (*problems[:_TOLD], *([f"{more} more on the page, under what is missing"] if more > 0 else [])):
        warnings.warn(text, stacklevel=3)  # where write_report was called
