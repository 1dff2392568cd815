"""Files that a folder has read although they lie elsewhere: through symbolic links, or by paths that lead out of it.

Whoever made the folder decides on both, and may be a stranger. So such files are only read where the user says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from voxward.core.case import Dataset
from voxward.core.errors import UserError
from voxward.core.failures import files_of
from voxward.data.formats.collisions import Refused
from voxward.data.formats.description import SPLITS_FILES

_DESCRIPTIONS = ("dataset.json", "labels.json", "channels.json", "dseg.tsv", *SPLITS_FILES)
_SHOWN = 3


def outside_entries(dataset: Dataset) -> Iterator[Refused]:
    """Return the cases of which a file lies outside of the dataset's folder; one message is about all of them.

    Args:
        dataset: The dataset as its layout declares it.
    """
    root = _home(dataset.root)
    found = {case: away for case in dataset.every if (away := _away(root, files_of(case)))}
    if found:
        files = [file for away in found.values() for file in away]
        message = _message(dataset.root, files, f"{len(found)} of {len(dataset.every)} cases have files")
        yield from (Refused(case, message, "outside") for case in found)


def refuse_outside(folder: Path, files: Sequence[Path]) -> None:
    """Refuse files that were found in a folder and lie elsewhere.

    Args:
        folder: The folder that the user gave, which may itself be a link.
        files: The files.

    Raises:
        UserError: There is such a file; the message counts all of them.
    """
    if away := _away(_home(folder), files):
        raise UserError(_message(folder, away, f"{len(away)} of {len(files)} files are links that lead"))


def refuse_linked_descriptions(root: Path) -> None:
    """Refuse to read a dataset's JSON files from elsewhere.

    Args:
        root: The folder of the dataset, which may itself be a link.

    Raises:
        UserError: One of them is a link that leads out of the folder.
    """
    if away := _away(_home(root), [root / name for name in _DESCRIPTIONS]):
        raise UserError(_message(root, away, "its description is a link that leads"))


def _home(folder: Path) -> str:
    return os.path.join(os.path.realpath(folder), "")


def _away(home: str, files: Sequence[Path]) -> list[Path]:
    """The files that are there and lie elsewhere; one that is not there is missing, and others say so."""
    return [file for file in files if not _real(file).startswith(home) and os.path.exists(file)]


def _real(file: Path) -> str:
    try:
        return os.path.realpath(file)
    except ValueError:  # a name that no file can have
        return str(file)


def _message(folder: Path, files: Sequence[Path], what: str) -> str:
    shown = "; ".join(f"{file} is {_real(file)}" for file in files[:_SHOWN])
    more = f"; and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return (
        f"{folder}: {what} outside of this folder, which are not read unless you allow it ({shown}{more}). If these "
        "files are yours, give --follow-links (Python: follow_links=True)"
    )
