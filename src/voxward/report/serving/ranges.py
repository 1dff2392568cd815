"""Which part of a file a request asks for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# 18 digits are more than any file has, and few enough to be read as a number.
_ONE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """A part of a file.

    Attributes:
        first: The place of its first byte.
        length: The number of its bytes.
    """

    first: int
    length: int

    def content_range(self, size: int) -> str:
        """Return the value of the header Content-Range for a file of `size` bytes."""
        return f"bytes {self.first}-{self.first + self.length - 1}/{size}"


class Unsatisfiable(Exception):  # noqa: N818 - it says what is the matter
    """No byte of the file is in the range that was asked for."""


def part_of(asked: str | None, size: int) -> Part | None:
    """Return the part of a file that a header Range asks for.

    Args:
        asked: The header; None without one.
        size: The number of bytes of the file.

    Returns:
        The part. None: the whole file, because no range, several ranges, or ranges of another unit are asked for; a
        server may answer these so.

    Raises:
        Unsatisfiable: The range cannot be read, or it lies outside the file.
    """
    if asked is None or "," in asked or not asked.strip().lower().startswith("bytes="):
        return None
    found = _ONE.fullmatch(asked.strip())
    first, last = found.groups() if found is not None else ("", "")
    if first == "":
        length = min(int(last or 0), size)  # the last bytes of the file
        begin, end = size - length, size - 1
    else:
        begin, end = int(first), min(int(last or size - 1), size - 1)
        if last and int(last) < int(first):
            raise Unsatisfiable
    if begin >= size or end < begin:
        raise Unsatisfiable
    return Part(begin, end - begin + 1)
