"""What happens to files: they are cut short, bits flip, and other things come to lie in their place."""

from __future__ import annotations

import gzip
import json
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxward.core.errors import UserError

Read = Callable[[], Any]
"""Reads a file as voxward does, and returns what came of it."""

FOREIGN = {
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100), "gzip": gzip.compress(b"{}", mtime=0), "null": b"null",
    "a list": b"[]", "an empty object": b"{}", "a number": b"1", "deep": b"[" * 100_000, "a text": b"hello: world\n",
    "UTF-16": "{}".encode("utf-16"), "not UTF-8": b"\xff\xfe\x00bad", "zip": b"PK\x05\x06" + bytes(18),
}  # fmt: skip


# What a crash of the machine makes of the end of a log.
_ENDS = ("cut", "the second half")


@dataclass
class Outcomes:
    """How often each outcome was seen, and every one that may not be.

    Attributes:
        counts: The number of damages by their outcome.
        wrong: A sentence for each that may not be.
    """

    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def note(self, outcome: str, wrong: str = "") -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if wrong:
            self.wrong.append(wrong)


def damages(content: bytes, flips: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name of a damage and the damaged content.

    Args:
        content: The whole content.
        flips: In how many copies one bit is flipped, each at a place of its own.
        seed: The seed of the places.
    """
    draw = random.Random(seed)
    yield "empty", b""
    for cut in sorted({1, len(content) // 4, len(content) // 2, 3 * len(content) // 4, len(content) - 1}):
        yield f"cut after {cut} bytes", content[:cut]
    yield "zeros", bytes(len(content))
    yield "garbage", draw.randbytes(len(content))
    yield "the second half is zeros", content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
    yield from FOREIGN.items()
    for _ in range(flips):
        place = draw.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        yield f"bit {place} flipped", bytes(flipped)


def tried(path: Path, read: Read, flips: int, seed: int = 0) -> Outcomes:
    """Damage a file in every way, and read it each time; afterwards it is as it was.

    Right outcomes are an error that a user is told and that names the file, and the same result as without the damage,
    also with a warning that names the file. A log that is cut short may have fewer rows.

    Args:
        path: The file.
        read: Reads it.
        flips: The number of copies in which one bit is flipped.
        seed: The seed of the damages.
    """
    content, found = path.read_bytes(), Outcomes()
    right = plain(read())
    for name, damaged in damages(content, flips, seed):
        if damaged == content:
            continue
        path.write_bytes(damaged)
        _note(found, path, name, read, right)
    path.write_bytes(content)
    assert plain(read()) == right
    return found


def _note(found: Outcomes, path: Path, name: str, read: Read, right: Any) -> None:
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result = plain(read())
    except (UserError, FileNotFoundError) as error:
        named = path.name in str(error)
        found.note("refused", "" if named else f"{path.name}, {name}: the message names no file: {error}")
    except Exception as error:
        found.note("unclear", f"{path.name}, {name}: {type(error).__name__}: {error}")
    else:
        if result == right:
            found.note("the same")
        elif path.suffix == ".csv" and result == right[: len(result)] and name.startswith(_ENDS):
            found.note("the first rows")  # as after a crash: a log has no end
        elif any(path.name in str(one.message) for one in said):
            found.note("warned")
        else:
            found.note("other", f"{path.name}, {name}: silently another result")


def plain(value: Any) -> Any:
    """A value that can be compared to the bit."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return repr(value)


def report(kind: str, found: Outcomes) -> str:
    """One line of figures."""
    return json.dumps({"kind": kind, "damages": sum(found.counts.values()), **found.counts})
