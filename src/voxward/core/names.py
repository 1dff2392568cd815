"""Names with accents: Unicode writes a letter with an accent in two ways, and macOS makes one name of both."""

from __future__ import annotations

import unicodedata
from pathlib import Path


def composed(name: str) -> str:
    """Return a name in the form (NFC) in which all names are compared."""
    return unicodedata.normalize("NFC", name)


def on_disk(path: Path) -> Path:
    """Return the path under which a file lies, where its name may be written in the other way.

    Args:
        path: A path as somebody wrote it.

    Returns:
        The path of the one file or folder that has that name in either form; `path` where there is none.
    """
    if (path.name.isascii() and path.parent.as_posix().isascii()) or path.exists() or path.parent == path:
        return path
    folder = on_disk(path.parent)
    if not folder.is_dir():
        return path
    alike = [entry for entry in folder.iterdir() if composed(entry.name) == composed(path.name)]
    return alike[0] if len(alike) == 1 else path
