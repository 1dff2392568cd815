"""Which files voxward itself wrote into a folder: it never replaces any other file without being asked to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.files import atomic_write, inside, sha256_of

MARKER = ".voxward"
"""The file in a folder that lists what voxward wrote there: a line of SHA-256, kind and name for every file."""
_HEADING = "# What voxward wrote into this folder (format 1): SHA-256, kind, name. It replaces no other file.\n"
_LISTED = 5


@dataclass(frozen=True)
class Outputs:
    """The files of one kind that voxward writes into a folder.

    A file is replaced only if the folder's marker says that it was written as this kind of output and it still has that
    content. So the user's own files, another command's output and files that were edited since are never replaced.

    Attributes:
        folder: Where the files go; it is made when the first one is written.
        kind: What is written, such as "a prediction".
        overwrite: Replace any file.

    Example:
        >>> outputs = Outputs(Path("segmentations"), "a prediction")
        >>> outputs.check(["case_1.nii.gz"])  # before hours of work
        >>> with outputs.write("case_1.nii.gz") as path:
        ...     write_label(path, label, affine)
    """

    folder: Path
    kind: str
    overwrite: bool = False

    def check(self, names: Iterable[str]) -> None:
        """Refuse to go on if writing some files would replace files of other origin.

        Args:
            names: The names of the files that are to be written.

        Raises:
            UserError: One of the names is not a plain file name, or files with these names exist that this kind of work
                did not write, or that were changed since. The message names them.
        """
        paths = [inside(self.folder, name) for name in names]
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file, and must be a folder: choose another --out")
        strangers = self._strangers(self._strangers(paths))  # again: another process may just have written them
        if strangers:
            listed = ", ".join(map(str, strangers[:_LISTED])) + (", ..." if len(strangers) > _LISTED else "")
            raise UserError(
                f"{listed}: not a file that voxward wrote as {self.kind}, or edited since. Choose another --out, move "
                "the file away, or pass --overwrite where the command has it"
            )

    @contextmanager
    def write(self, name: str, how: str = "") -> Iterator[Path]:
        """Yield a temporary path for a file, which takes the file's place on success; see `core.files.atomic_write`.

        Args:
            name: The file's name inside the folder.
            how: A digest of everything that decides the file's content, for `made`; empty where nobody asks.

        Yields:
            The temporary path.

        Raises:
            UserError: The file must not be replaced; see `check`.
        """
        self.check([name])
        with atomic_write(inside(self.folder, name)) as unfinished:
            yield unfinished
            # Noted before the file is renamed: a process that is killed in between leaves no unknown file.
            digest = sha256_of(unfinished)
            self._note(name, digest)
            if how:
                replace(self, kind=f"{self.kind} {how}")._note(name, digest)

    def made(self, name: str, how: str) -> bool:
        """Return whether a file is there that `write` wrote with this `how`, and that nobody changed since.

        Args:
            name: The file's name inside the folder.
            how: The digest that was given to `write`.
        """
        own = replace(self, kind=f"{self.kind} {how}")
        return own._own(inside(self.folder, name), own._lines())

    def remove(self, name: str) -> bool:
        """Remove a file if `write` wrote it and nobody changed it since, or if any file may be replaced.

        Args:
            name: The file's name inside the folder.

        Returns:
            Whether the file is gone.
        """
        path = inside(self.folder, name)
        if self._strangers([path]):
            return False
        path.unlink(missing_ok=True)
        return True

    def text(self, name: str, text: str) -> None:
        """Write a text to a file, as UTF-8.

        Args:
            name: The file's name inside the folder.
            text: The text.

        Raises:
            UserError: The file must not be replaced; see `check`.
        """
        with self.write(name) as path:
            path.write_text(text, encoding="utf-8")

    def json(self, name: str, value: Any) -> None:
        """Write a value to a file, as indented JSON.

        Args:
            name: The file's name inside the folder.
            value: Plain data.

        Raises:
            UserError: The file must not be replaced; see `check`.
            ValueError: The value holds NaN or infinity.
        """
        self.text(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def _strangers(self, paths: Sequence[Path]) -> list[Path]:
        known = self._lines()
        return [path for path in paths if path.exists() and not (self.overwrite or self._own(path, known))]

    def _own(self, path: Path, known: frozenset[str]) -> bool:
        return path.is_file() and self._line(path.name, sha256_of(path)) in known

    def _line(self, name: str, digest: str) -> str:
        return f"{digest} {self.kind} {json.dumps(name)}"

    def _lines(self) -> frozenset[str]:
        marker = self.folder / MARKER
        if not os.path.lexists(marker):
            return frozenset()
        if marker.is_symlink() or not marker.is_file():
            raise UserError(f"{marker} must be an ordinary file: voxward lists there what it wrote into the folder")
        return frozenset(marker.read_text(encoding="utf-8", errors="replace").split("\n"))

    def _note(self, name: str, digest: str) -> None:
        """Append to the marker. It is a log: processes that share a folder lose nothing of each other's."""
        line, known = self._line(name, digest), self._lines()
        if line not in known:
            # It starts a new line, even after one that a full disk cut short. A link is not followed.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            with open(os.open(self.folder / MARKER, flags, 0o666), "a", encoding="utf-8") as marker:
                marker.write(f"\n{line}\n" if known else f"{_HEADING}{line}\n")


def adopt(folder: Path, files: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Write files that voxward wrote into another folder, with what the marker there says of them.

    A file of which that marker says nothing is replaced without asking.

    Args:
        folder: The folder to write into.
        files: The contents by name, the marker's among them where there is one.
        overwrite: Replace any file.

    Raises:
        UserError: A file here is not one that voxward wrote as the same kind of output, or it was edited since.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for line in files.get(MARKER, b"").decode("utf-8", errors="replace").split("\n"):
        digest, _, rest = line.partition(" ")
        kind, _, quoted = rest.rpartition(' "')
        if len(digest) == 64 and kind:
            kinds.setdefault(json.loads(f'"{quoted}'), []).append((kind, digest))
    for name, content in files.items():
        if name == MARKER:
            continue
        (first, _), *others = kinds.get(name, [("", "")])
        if not first:
            with atomic_write(folder / name) as path:
                path.write_bytes(content)
            continue
        with Outputs(folder, first, overwrite).write(name) as path:
            path.write_bytes(content)
        found = hashlib.sha256(content).hexdigest()
        for kind, digest in others:
            if digest == found:  # a line of an earlier content says how that one was made
                Outputs(folder, kind)._note(name, found)
