"""Where the page goes, and what lies beside it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from voxward.core.choices import Look, Output
from voxward.core.errors import CasesFailed, UserError
from voxward.core.files import refuse_unwritable
from voxward.core.outputs import Outputs
from voxward.data.formats import open_dataset
from voxward.report.absent import absent_images
from voxward.report.card import card_text, refuse_card
from voxward.report.html.page import Setting, render
from voxward.report.html.paper import figures_outputs, paper
from voxward.report.source_files import told
from voxward.report.sources import Sources, read_sources
from voxward.robustness.eps import SAME_EPS, eps_texts, record_eps_text

PAGE = "report.html"
KIND = "a report page"
CARD_KIND = "a model card"


@dataclass(frozen=True)
class WrittenPage:
    """A page that was written.

    Attributes:
        path: The HTML file.
        problems: What is missing on it, one sentence each.
        empty: Whether it shows nothing that was measured.
    """

    path: Path
    problems: tuple[str, ...]
    empty: bool


def write_page(
    folders: Sequence[Path],
    out: Path,
    look: Look = Look(),
    overwrite: bool = False,
    card: Path | None = None,
    figures: Path | None = None,
) -> WrittenPage:
    """Write the page of some folders.

    Args:
        folders: Folders of attacks, runs, searches, cross-validations and suites, in any mix.
        out: The HTML file. Volumes that are not inside it go into a folder `NAME-files` beside it.
        look: What the user chose.
        overwrite: Whether a file that voxward did not write, or that was edited since, may be replaced.
        card: The file of the model card; None: no card.
        figures: The folder for every figure as SVG and PDF; None: none.

    Returns:
        The page, with what is missing on it.

    Raises:
        UserError: A folder does not exist or cannot be written to, a file must not be replaced, the dataset is none, or
            there is nothing to write a card about or to draw.
    """
    outputs = Outputs(out.parent, KIND, overwrite)
    outputs.check([out.name])
    if card is not None:
        Outputs(card.parent, CARD_KIND, overwrite).check([card.name])
    refuse_unwritable(out.parent)
    if look.data is not None:
        _refuse_data(Path(look.data), look.follow_links)
    sources = _read(folders, look)
    _refuse_eps(sources, look)
    if card is not None:
        refuse_card(sources)
    drawn = None if figures is None else paper(sources, look)
    if drawn is not None and figures is not None:
        figures_outputs(figures, overwrite).check(drawn.files)
    text = render(sources, Setting(look, out.with_name(f"{out.stem}-files"), overwrite))
    # The name of a file may hold bytes that are no text.
    with _naming(out.parent):
        outputs.text(out.name, text.encode("utf-8", "replace").decode("utf-8"))
    if card is not None:
        Outputs(card.parent, CARD_KIND, overwrite).text(card.name, card_text(sources))
    if drawn is not None and figures is not None:
        drawn.write(figures_outputs(figures, overwrite))
    return WrittenPage(out, sources.problems, _is_empty(sources))


def _read(folders: Sequence[Path], look: Look) -> Sources:
    """What lies in the folders; images that are gone are among the problems, unless the user says where they are."""
    sources = read_sources(folders)
    gone = [] if look.data is not None else [text for one in sources.attacks for text in absent_images(one)]
    return replace(sources, problems=(*sources.problems, *gone))


def _is_empty(sources: Sources) -> bool:
    attacked = any(one.records for one in sources.attacks)
    return not (attacked or sources.runs or sources.searches or sources.validations or sources.suites)


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Name the folder of the page in an error of the disk, and not a file that a reader has never heard of."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}): choose another --out") from error


def _refuse_data(data: Path, follow_links: bool) -> None:
    """Refuse a folder that is said to be the moved dataset and is none."""
    try:
        open_dataset(data, follow_links)
    except (UserError, OSError) as error:
        raise UserError(f"--data {data} is no dataset that can be read: {error}") from error


def _refuse_eps(sources: Sources, look: Look) -> None:
    """Refuse a size at which no attack of the folders was run."""
    rows = [record for source in sources.attacks for record in source.records if record.kind == "attack"]
    if look.eps is None or any(abs(record.eps - float(look.eps)) < SAME_EPS for record in rows):
        return
    sizes = ", ".join(dict.fromkeys(map(record_eps_text, sorted(rows, key=lambda record: record.eps)))) or "none"
    given = eps_texts(rows)(float(look.eps))
    raise UserError(f"--eps must be a size at which attacks were run ({sizes}), got {given}")


def check_page(output: Output) -> None:
    """Refuse to begin work whose page would replace a file that voxward did not write.

    Args:
        output: Where the work writes, and whether it writes a page.

    Raises:
        UserError: Such a file lies there.
    """
    if output.report:
        Outputs(output.root, KIND, output.overwrite).check([PAGE])


@contextmanager
def page_after(output: Output) -> Iterator[None]:
    """Write the page of the work inside the block, also where some of its cases failed.

    Args:
        output: Where the work writes, and whether it writes a page.
    """
    try:
        yield
    except CasesFailed as failed:
        if failed.result:
            page_of(output)
        raise
    page_of(output)


def page_of(output: Output, folders: Sequence[Path] = ()) -> None:
    """Write the page of finished work into its folder, unless the user wants none.

    The work is done by then and worth more than its page, so that a page which cannot be written is no error of it.

    Args:
        output: Where the work writes, and whether it writes a page.
        folders: The folders that the page shows; none: the folder itself.

    Warns:
        UserWarning: The page cannot be written.
    """
    if not output.report:
        return
    try:
        write_page(folders or (output.root,), output.root / PAGE, overwrite=output.overwrite)
    except (UserError, OSError) as error:
        warnings.warn(
            f"{output.root / PAGE} was not written: {told(error)}. All else is there, and `voxward report "
            f"{output.root}` writes the page later",
            stacklevel=2,
        )
