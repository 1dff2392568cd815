"""Whether a file of torch.save is whole: torch.load does not compare the checksums of the archive that it reads."""

from __future__ import annotations

import errno
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK = 2**20


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; one that names places before its own beginning is damaged, and not the disk.

    Args:
        path: The file.

    Raises:
        zipfile.BadZipFile: The file is no archive, or damaged.
        OSError: The file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise zipfile.BadZipFile("it names a place before its own beginning") from error


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive, which may still be damaged.

    Args:
        path: The file.
    """
    try:
        return zipfile.is_zipfile(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return True  # it names a place before its own beginning


def refuse_damaged(path: Path, only: str = "") -> None:
    """Refuse an archive in which a part does not have the checksum (CRC-32) that stands beside it.

    torch can be told to write no checksums. Then no part has the one that stands there, and nothing is refused.

    Args:
        path: The file.
        only: The end of the names of the parts that are compared; empty for all of them.

    Raises:
        zipfile.BadZipFile: The file is no archive, or a part is damaged; the message names the part.
        RuntimeError: A part claims to be encrypted, or to be compressed in a way that is not known.
        OSError: The file cannot be read.
    """
    with opened_archive(path) as archive:
        parts = [entry for entry in archive.infolist() if entry.filename.endswith(only)]
        damaged = [entry.filename for entry in parts if not _whole(archive, entry)]
    if damaged and (only or len(damaged) < len(parts)):
        raise zipfile.BadZipFile(f"the checksum of its part {damaged[0]!r} is wrong")


def _whole(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(entry) as part:
            while part.read(_BLOCK):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False
    return True
