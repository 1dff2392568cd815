"""How files that belong to a result come from a worker to the folder of the work, on a shared file system or not."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.files import write_text
from voxward.core.leftovers import PREFIX
from voxward.core.outputs import MARKER, adopt

_PROBE = ".voxward.seen-"


@dataclass(frozen=True)
class Place:
    """The folder of the work, and a file in it by which a worker knows whether it sees the same folder.

    Attributes:
        folder: The folder, absolute.
        probe: The name of the file.
        token: What the file holds.
    """

    folder: Path
    probe: str
    token: str

    @property
    def seen(self) -> bool:
        """Whether this process sees the folder."""
        try:
            return (self.folder / self.probe).read_text(encoding="utf-8") == self.token
        except OSError:
            return False


@contextmanager
def place_of(folder: Path) -> Iterator[Place]:
    """Yield the place of a folder, whose file is there inside the block; what killed processes left of it goes.

    Args:
        folder: The folder of the work, which is made.
    """
    token = secrets.token_hex(16)
    for left in folder.glob(f"{_PROBE}*"):  # no other process works in the folder
        left.unlink(missing_ok=True)
    place = Place(folder.absolute(), f"{_PROBE}{token[:8]}", token)
    write_text(place.folder / place.probe, token)
    try:
        yield place
    finally:
        with suppress(OSError):
            (place.folder / place.probe).unlink()


def packed(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by their places, and empty it.

    They are in the order in which they were last written: the file that says that a unit is finished comes last.

    Args:
        folder: The folder, in which a unit has just written.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)
        if not path.name.startswith(PREFIX)
    }
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return found


def deliver(folder: Path, files: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Write files of a worker into the folder of the work, in their order, as if the unit had been done there.

    Args:
        folder: The folder of the work.
        files: The contents by place, from `packed`.
        overwrite: Whether files that voxward did not write may be replaced.

    Raises:
        UserError: A file must not be replaced, or a place lies outside the folder.
    """
    markers = {place.rpartition("/")[0]: content for place, content in files.items() if _name(place) == MARKER}
    for parent, places in groupby(files, key=lambda place: place.rpartition("/")[0]):
        own = {_name(place): files[place] for place in places}
        if parent in markers:
            own[MARKER] = markers[parent]
        adopt(_within(folder, parent), own, overwrite)


def _name(place: str) -> str:
    return place.rpartition("/")[2]


def _within(folder: Path, parent: str) -> Path:
    names = parent.split("/") if parent else []
    if any(name in ("", ".", "..") for name in names):
        raise UserError(f"a worker has sent a file to {parent}, which is outside of {folder}")
    return folder.joinpath(*names)
