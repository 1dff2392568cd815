"""Volumes that were made of DICOM files for a command, and what they may be used for again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.files import inside
from voxward.core.leftovers import PREFIX
from voxward.core.reading import read_json
from voxward.data.content import digest_of
from voxward.data.dicom.dataset import BOOK
from voxward.data.dicom.make import Entry
from voxward.data.formats.description import read_description
from voxward.data.made_dataset import DESCRIPTION, ENDING

_KEYS = {"folder": str, "series": list, "volumes": str}
# What voxward has left unfinished, and what a file browser writes.
_HIDDEN = (PREFIX, ".DS_Store")
_OF_SERIES = ("uid", "kind", "sha256")
_MOVE = "move {} away, and they are made again, or choose another --out"


@dataclass(frozen=True)
class Kept:
    """A folder of volumes that a command made of DICOM files.

    Attributes:
        folder: The folder.
        how: What the volumes depend on beside the files: classes, channels, the version.
        cases: What each case was made of, by its id; `volumes` is a digest of what was made.
        fixed: Whether records are kept of them, so that nothing may be made again.
    """

    folder: Path
    how: Mapping[str, Any]
    cases: Mapping[str, Entry]
    fixed: bool = False

    @classmethod
    def read(cls, folder: Path) -> Kept | None:
        """Read a folder; None where there is none, or an empty one.

        Raises:
            UserError: The folder holds something else, or its description was edited so that it means something else.
        """
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return None
        book: Any = read_json(folder / BOOK) if (folder / BOOK).is_file() else None
        how, cases = (book.get(name) if _is_book(book) else None for name in ("how", "cases"))
        if not isinstance(how, Mapping) or not isinstance(cases, Mapping):
            raise UserError(
                f"{folder} is where volumes of DICOM files are kept, and holds something else: move it away, or choose "
                "another --out"
            )
        found, description = cls(folder, how, cases, book.get("fixed") is True), read_description(folder)
        channels = {str(n): name for n, name in enumerate(how["channels"])}
        if (description.get("labels"), description.get("channel_names")) != (how.get("labels"), channels):
            raise UserError(f"{folder / DESCRIPTION} was edited since voxward wrote it: {_MOVE.format(folder)}")
        return found

    def serves(self, id: str, entry: Entry, truth: bool) -> bool:
        """Return whether a case is what would be made of some files, wherever these lie.

        Args:
            id: Its id.
            entry: What would be made of the files.
            truth: Whether ground truth is needed; without that, a label may be there, too.
        """
        series = _identity(self.cases[id])
        return (series if truth else _images(series)) == _identity(entry)

    def lacks_truth(self, id: str, entry: Entry) -> bool:
        """Return whether a case has the images that would be made of some files, and only the label is not there."""
        series, wanted = _identity(self.cases[id]), _identity(entry)
        return series == _images(series) == _images(wanted) != wanted

    def files(self, id: str) -> tuple[Path, ...]:
        """Return the files of a case: a volume for each channel, and last the label, where there is ground truth."""
        return made_files(self.folder, id, self.cases[id])

    def refuse_edited(self, ids: Iterable[str]) -> None:
        """Refuse cases whose volumes are others than voxward wrote.

        Raises:
            UserError: There is one.
        """
        for id in ids:
            files = self.files(id)
            if not all(file.is_file() for file in files) or digest_of(files) != self.cases[id]["volumes"]:
                raise UserError(
                    f"the volume of case {id} in {self.folder} was edited or removed since it was made of "
                    f"{self.cases[id]['folder']}: {_MOVE.format(self.folder)}"
                )

    def refuse_lost(self, replaced: Iterable[str]) -> None:
        """Refuse to replace the folder where something would be lost that voxward did not write.

        Args:
            replaced: The cases whose volumes are made again; those of the others stay as they are.

        Raises:
            UserError: There is such a file.
        """
        self.refuse_edited(replaced)
        known = {file for id in self.cases for file in self.files(id)}
        known |= {self.folder / BOOK, self.folder / DESCRIPTION}
        for file in self.folder.rglob("*"):
            if not file.is_dir() and file not in known and not file.name.startswith(_HIDDEN):
                raise UserError(f"{file} is not a file that voxward wrote: move it away, or choose another --out")

    def replaceable(self, replaced: Iterable[str]) -> bool:
        """Return whether nothing would be lost with the folder, see `refuse_lost`, which raises where something would.

        Args:
            replaced: The cases whose volumes are made again.
        """
        self.refuse_lost(replaced)
        return True

    def take_over(self, id: str, folder: Path) -> bool:
        """Put the files of a case into another folder of volumes, too; False where the user has removed one of them."""
        files = self.files(id)
        if not all(file.is_file() for file in files):
            return False
        for file in files:
            _link(file, folder / file.relative_to(self.folder))
        return True

    def take_images(self, id: str, targets: Iterable[Path]) -> None:
        """Put the images of a case into another folder of volumes, too.

        Args:
            id: The case.
            targets: Where each of its images goes.
        """
        for file, target in zip(filter(is_image, self.files(id)), targets, strict=True):
            _link(file, target)


def is_image(file: Path) -> bool:
    """Return whether a file of `made_files` is a volume, and no label."""
    return file.parent.name.startswith("images")


def made_files(folder: Path, id: str, entry: Entry) -> tuple[Path, ...]:
    """Return the files of a case in a folder of volumes, see `Kept.files`.

    Raises:
        UserError: The id is no plain name.
    """
    kinds = [one["kind"] for one in entry["series"]]
    images, labelled = kinds.count("image"), any(kind != "image" for kind in kinds)
    place = folder / ("imagesTr" if labelled else "imagesTs")
    volumes = tuple(inside(place, f"{id}_{n:04d}{ENDING}") for n in range(images))
    return (*volumes, inside(folder / "labelsTr", id + ENDING)) if labelled else volumes


def _identity(entry: Entry) -> list[tuple[str, ...]]:
    return [tuple(str(one[key]) for key in _OF_SERIES) for one in entry["series"]]


def _images(series: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [one for one in series if one[_OF_SERIES.index("kind")] == "image"]


def _link(file: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(file, target)
    except OSError:  # a file system without links
        shutil.copyfile(file, target)


def _is_book(book: Any) -> bool:
    """Whether a file is a list of cases that were converted for a command; one of `from-dicom` itself is not."""
    if not isinstance(book, Mapping) or book.get("format") != 1:
        return False
    how, cases = book.get("how"), book.get("cases")
    named = isinstance(how, Mapping) and isinstance(how.get("channels"), list)
    return named and isinstance(cases, Mapping) and all(map(_is_entry, cases.values()))


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), kind) for key, kind in _KEYS.items()):
        return False
    return all(isinstance(one, Mapping) and set(_OF_SERIES) <= set(one) for one in entry["series"])
