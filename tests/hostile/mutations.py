"""Changes of sound files into damaged and hostile ones: of their bytes, their lines, and the values that they hold."""

from __future__ import annotations

import copy
import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

BYTES = bytes((0, 1, 2, 0x7F, 0x80, 0xFF, 0xFE)) + b' \n-09"{}[]:,/'
WHOLE = (
    0, -1, 1, 2, 3, 4, 5, 7, 8, 16, 64, 100, 127, 255, 256, 512, 1024, 30000, 32767, -32768, 65535, 2**24, 2**31 - 1,
    -(2**31),
)  # fmt: skip
REAL = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, -1.0, 0.5, 1e-38, 3e38, 1e-300, 1e300, 1e9)

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 1.5, -0.5, 1e308, 1e-320, float("nan"), float("inf"), 10**30, 2**31, 2**63,
    -(2**63), 65536, 1e400, "", "x", "0", "-1", "²", ".", "..", "../../x", "/etc/passwd", "a\x00b", "\ud800",
    "\\\\host\\x",
    "é ; $(x)\n", "A" * 3000, "NUL", "CT", "LOCAL", "%s%n", "__class__", "$import os", "@x", [], {}, [1], [0], [1, 2],
    [[1]],
    [None], ["a"], [1.5], [-1], [10**9], [0] * 50, [True], {"0": "a"}, {"a": [1]}, {"a": {"b": 1}}, {"background": 0},
    {"": ""},
)  # fmt: skip
"""What no field expects, in kinds that JSON and YAML can hold."""
NUMBERS = (
    0, -1, 1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 64, 100, 1000, 10**6, 10**9, 0.0, -0.5, 0.5, 1e-9, 1e9, 1e300, 2**31, 2**63,
    float("nan"), float("inf"), -float("inf"), True,
)  # fmt: skip


def bytes_changed(random: Random, data: bytes, head: int | None = None) -> bytes:
    """Return bytes with bit flips, odd numbers, cuts, splices or an early end.

    Args:
        random: What is drawn from.
        data: The bytes.
        head: Up to which byte most changes are made; None: anywhere.
    """
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5, 10))):
        if not found:
            break
        _change_bytes(random, found, min(head or len(found), len(found)))
    return bytes(found)


def _change_bytes(random: Random, found: bytearray, head: int) -> None:
    place, kind = random.randrange(head), random.randrange(8)
    if kind <= 1:
        found[place] ^= 1 << random.randrange(8)
    elif kind == 2:
        found[place] = random.choice(BYTES)
    elif kind <= 4:
        number = _number(random)
        found[place : place + len(number)] = number
    elif kind == 5:
        del found[place : place + random.choice((1, 2, 4, 100, len(found)))]
    elif kind == 6:
        start = random.randrange(len(found))  # a piece of the file itself, elsewhere
        found[place:place] = found[start : start + random.choice((1, 4, 16, 50))]
    else:
        del found[place:]


def _number(random: Random) -> bytes:
    form = random.choice(("<h", "<i", "<f", "<d", ">h", ">i", "<q", "<H", "<I"))
    try:
        return struct.pack(form, random.choice(REAL if form[1] in "fd" else WHOLE))
    except (struct.error, OverflowError):
        return b"\xff\xff\xff\xff"


def lines_changed(random: Random, data: bytes, words: Sequence[bytes], separators: Sequence[bytes]) -> bytes:
    """Return lines of NAME = VALUE of which some have other values, are missing, twice, or elsewhere.

    Args:
        random: What is drawn from.
        data: The lines.
        words: Values for any of them.
        separators: What may stand between a name and its value.
    """
    lines = data.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        n = random.randrange(len(lines))
        kind = random.randrange(10)
        separator = next((each for each in separators if each in lines[n]), None)
        if kind < 6 and separator is not None:
            lines[n] = lines[n].split(separator)[0] + separator + random.choice(words)
        elif kind == 6 and len(lines) > 1:
            del lines[n]
        elif kind == 7:
            lines.insert(n, lines[random.randrange(len(lines))])
        elif kind == 8 and lines[n]:
            lines[n] = bytes_changed(random, lines[n])
        else:
            random.shuffle(lines)
    return b"\n".join(lines)


def value_changed(random: Random, value: Any) -> Any:
    """Return plain data with fields of other kinds, missing, renamed, repeated, or with numbers out of bounds."""
    found = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(found))
        at = random.choice(places)
        if not at:
            if random.randrange(10) == 0:
                return copy.deepcopy(random.choice(VALUES))
            continue
        _change_value(random, _at(found, at[:-1]), at[-1], lambda: copy.deepcopy(_at(found, random.choice(places))))  # noqa: B023
    return found


def _change_value(random: Random, parent: Any, key: Any, other: Callable[[], Any]) -> None:
    kind, now = random.randrange(20), parent[key]
    number = isinstance(now, int | float) and not isinstance(now, bool)
    if number and kind < 12:
        parent[key] = random.choice(NUMBERS)
    elif kind < 10:
        parent[key] = copy.deepcopy(random.choice(VALUES))
    elif kind < 13:
        del parent[key]
    elif kind < 15:
        parent[key] = other()
    elif kind < 17 and isinstance(parent, dict):
        parent[str(random.choice(VALUES))[:20]] = parent.pop(key)
    elif isinstance(parent, list):
        parent.insert(key, copy.deepcopy(random.choice((*VALUES, now))))
    else:
        parent[key] = random.choice(([now], {"a": now}, str(now)))


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    if len(at) < 12:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, each in inner:
            yield from _places(each, (*at, key))


def _at(value: Any, at: Sequence[Any]) -> Any:
    for key in at:
        value = value[key]
    return value


def json_changed(random: Random, data: bytes) -> bytes:
    """Return JSON with other values, with keys that are there twice, nested without end, or with other bytes."""
    kind = random.randrange(20)
    if kind == 0:
        return bytes_changed(random, data)
    if kind == 1:
        text = data.decode("utf-8", "replace")
        place = text.find("{", random.randrange(max(len(text) - 1, 1)))
        return (text[: place + 1] + '"format": 1, "format": 2,' + text[place + 1 :]).encode()
    if kind == 2:
        deep = random.choice(("[", '{"a":')) * random.choice((100, 5000, 100_000))
        return random.choice((deep.encode(), data.rstrip()[:-1] + b', "deep": ' + deep.encode()))
    changed = value_changed(random, json.loads(data))
    try:
        text = json.dumps(changed)
    except (ValueError, TypeError):
        text = "{}"
    found = text.encode("utf-8", "surrogatepass")
    return bytes_changed(random, found) if random.randrange(8) == 0 else found


def gzip_changed(random: Random, data: bytes, inner: Callable[[Random, bytes], bytes]) -> bytes:
    """Return a gzip file of changed content, with a changed stream, with something behind it, or of much more."""
    kind = random.randrange(10)
    content = gzip.decompress(data)
    if kind < 6:
        return gzip.compress(inner(random, content), 1)
    if kind < 8:
        return bytes_changed(random, data)
    if kind == 8:
        return data + random.choice((b"\0" * 10, b"more", data, gzip.compress(b"\0" * 10**6)))
    return gzip.compress(content + b"\0" * random.choice((1, 10**5, 4 * 10**6)), 1)


def zip_changed(random: Random, data: bytes, inner: Callable[[Random, str, bytes], bytes]) -> bytes:
    """Return a zip archive with a changed, missing, renamed, packed or added member, or with other bytes.

    Args:
        random: What is drawn from.
        data: The archive.
        inner: Changes the content of a member, by its name.
    """
    if random.randrange(6) == 0:
        return bytes_changed(random, data, random.choice((None, 200)))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
        packed = [entry.compress_type for entry in archive.infolist()]
    name, kind = random.choice(sorted(members)), random.randrange(10)
    method = packed[0] if packed else zipfile.ZIP_STORED
    if kind < 6:
        members[name] = inner(random, name, members[name])
    elif kind == 6:
        del members[name]
    elif kind == 7:
        hostile = ("../" + name, "/" + name, "", "a\\..\\b", name + "/x", "\u202e" + name, "x" * 5000, "..", "C:x")
        members[random.choice(hostile)] = members.pop(name)
    elif kind == 8:
        method = zipfile.ZIP_DEFLATED
        members[name] = random.choice((members[name], b"\0" * 10**6))
    else:
        members["added" + name] = random.choice((members[name], b"", b"\0" * 1000))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for each, content in members.items():
            archive.writestr(each or "empty", content)
    return file.getvalue()
