"""Which files a server gives out, and what it calls their kind."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from voxward.core.errors import UserError
from voxward.core.files import name_fault

INDEX = "report.html"
"""The page of a folder."""
SIDECAR = "-files"
"""What stands behind the name of a page in the name of the folder that holds its large files."""

_UNKNOWN = "application/octet-stream"
_KINDS = {
    **dict.fromkeys((".html", ".htm"), "text/html; charset=utf-8"),
    ".md": "text/markdown; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".yaml": "text/plain; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".pdf": "application/pdf",
    # A compressed volume is sent as it is: a reader of NIfTI uncompresses it, not the browser.
    ".gz": "application/gzip",
}
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Served:
    """The files that a server gives out: of a page only the page and its own folder, of a folder what lies in it.

    Nothing whose name begins with a dot is given out, nothing that a link leads to outside, and no list of files.

    Attributes:
        root: The folder, without links in its path.
        page: The name of the file that is sent for "/".
        alone: Whether only the page and its folder of large files are given out.
    """

    root: Path
    page: str = INDEX
    alone: bool = False

    @classmethod
    def of(cls, path: Path | str) -> Served:
        """Return what is given out for a path.

        Args:
            path: A report (`.html`), or a folder.

        Raises:
            UserError: The path is neither.
        """
        given = Path(path)
        if not given.exists():
            raise UserError(f"{given} does not exist: serve takes a report (.html) or the folder of one")
        real = given.resolve()
        if real.is_dir():
            return cls(real)
        if real.suffix.lower() not in (".html", ".htm") or not real.is_file():
            raise UserError(f"{given} is neither a report (.html) nor a folder, and serve gives out nothing else")
        if (fault := name_fault(real.name)) is not None:
            raise UserError(f"{given} cannot be served, because of its name {real.name!r}: {fault}; rename it")
        return cls(real.parent, real.name, alone=True)

    @property
    def has_page(self) -> bool:
        """Return whether the page for "/" is there."""
        return self.find("/") is not None

    def find(self, target: str) -> Path | None:
        """Return the file that a request asks for; None where there is none, or it is not given out.

        Args:
            target: The path of the request as it was sent, percent-encoded, without a query.
        """
        names = _names(target)
        if names is None:
            return None
        try:
            real = self.root.joinpath(*(names or [self.page])).resolve(strict=True)
            inner = real.relative_to(self.root).parts
            regular = stat.S_ISREG(real.stat().st_mode)
        except (OSError, ValueError, RuntimeError):  # not there, outside, or links in a circle
            return None
        return real if regular and self._given_out(inner) else None

    def _given_out(self, parts: tuple[str, ...]) -> bool:
        """Return whether a file is given out; a link inside the folder may have led to another name."""
        if not parts or any(part.startswith(".") for part in parts):
            return False
        own = Path(self.page).stem + SIDECAR
        return not self.alone or parts == (self.page,) or (len(parts) > 1 and parts[0] == own)


def _names(target: str) -> list[str] | None:
    """Return the names between the slashes, decoded once; None where one of them is not a plain name."""
    if not target.startswith("/") or _ESCAPE.search(target):
        return None
    try:
        parts = [unquote_to_bytes(part).decode("utf-8") for part in target[1:].split("/")]
    except UnicodeDecodeError:
        return None
    if parts == [""]:
        return []
    return None if any(name_fault(part) is not None for part in parts) else parts


def kind_of(path: Path) -> str:
    """Return the media type of a file, by its suffix."""
    return _KINDS.get(path.suffix.lower(), _UNKNOWN)


def opened(path: Path) -> BinaryIO:
    """Open a file that `Served.find` returned; should it have become a link or a pipe since, that is an error.

    Raises:
        OSError: It is no regular file any more.
    """
    careful = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
    file = os.fdopen(os.open(path, os.O_RDONLY | sum(getattr(os, name, 0) for name in careful)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is no regular file")
    return file
