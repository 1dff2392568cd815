"""The headers of NRRD and MetaImage files, read before ITK sees them.

ITK believes what a header says: a wrong number of dimensions writes out of bounds, a data file may be any file of the
machine or a pipe that never ends, and memory is allocated for whatever size is claimed. So a header is only handed on
where it is of a plain form that this and ITK's reader understand alike, and the voxels are where it says.
"""

from __future__ import annotations

import bz2
import gzip
import math
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from voxward.core.errors import UserError
from voxward.data.volume_file import MOST_INFLATED

Encoding = Literal["raw", "text", "zlib", "gzip", "bzip2"]

_LONGEST_HEADER = 1 << 20
_BLOCK = 1 << 20
# bzip2 makes at most about so many bytes of one.
_MOST_UNZIPPED = 50_000
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_META_NAME = re.compile(rb"[ -9;<>-~]{1,128}")  # printable, without = and :

_META_FIELDS = (
    "NDims", "DimSize", "ElementType", "ElementNumberOfChannels", "ElementDataFile", "HeaderSize", "BinaryData",
    "CompressedData", "CompressedDataSize",
)  # fmt: skip
_META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4,
    "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_NRRD_BYTES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: (
        "short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort", "unsigned short",
        "unsigned short int", "uint16", "uint16_t",
    ),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    8: (
        "longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t",
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double",
    ),
}  # fmt: skip
_NRRD_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw", "txt": "text", "text": "text", "ascii": "text", "hex": "text", "gz": "gzip", "gzip": "gzip",
    "bz2": "bzip2", "bzip2": "bzip2",
}  # fmt: skip


@dataclass(frozen=True)
class Voxels:
    """Where the voxels of a file lie, and how many bytes of them its header claims.

    Attributes:
        path: The file itself, or the data file that it names, in the same folder.
        start: The byte of that file at which they begin.
        encoding: How they are kept.
        values: How many numbers there are.
        bytes: How many bytes these take once they are unpacked.
        skipped: How many unpacked bytes come before them.
        packed: How many bytes of the file ITK will unpack; None: all that follow.
    """

    path: Path
    start: int
    encoding: Encoding
    values: int
    bytes: int
    skipped: int = 0
    packed: int | None = None

    def check_size(self) -> None:
        """Compare what the header claims with the size of the file.

        Raises:
            UserError: So small a file cannot hold so many voxels.
        """
        held = max(self.path.stat().st_size - self.start, 0)
        if self.packed is not None and self.packed > held:
            raise UserError(f"the header claims {self.packed} bytes of packed voxels, and the file holds {held}")
        most = {
            "raw": held, "zlib": held * MOST_INFLATED, "gzip": held * MOST_INFLATED, "bzip2": held * _MOST_UNZIPPED,
        }  # fmt: skip
        if self.encoding == "text":
            fits = 2 * self.values - 1 <= held  # a digit, and what separates it from the next
        else:
            fits = self.skipped + self.bytes <= most[self.encoding]
        if not fits:
            raise UserError(f"the header claims {self.bytes} bytes of voxels, which {held} bytes cannot hold")

    def check_stream(self) -> None:
        """Unpack packed voxels once, to their checksum and in bounded memory: ITK says nothing of a damaged stream.

        Raises:
            UserError: The stream holds another number of bytes.
            zlib.error: The stream is damaged.
            OSError: The stream is damaged.
            EOFError: The stream is damaged.
        """
        if self.encoding not in ("zlib", "gzip", "bzip2"):
            return
        found, wanted = 0, self.skipped + self.bytes
        for block in _unpacked(self):
            found += len(block)
            if found > wanted and not self.skipped:
                raise UserError(f"the header claims {self.bytes} bytes of voxels, and the file holds more")
        if found < wanted:
            raise UserError(f"the header claims {wanted} bytes of voxels, and the file holds {found}")


def voxels_of(path: Path) -> Voxels:
    """Read the header of a NRRD or MetaImage file and compare it with the file.

    Args:
        path: The file.

    Returns:
        Where the voxels lie.

    Raises:
        UserError: The header is not of the plain form, claims sizes that are none or that the file cannot hold, or
            names a data file that is not a file in the same folder.
    """
    with path.open("rb") as file:
        found = _nrrd(path, file) if path.suffix.lower() == ".nrrd" else _meta(path, file)
    found.check_size()
    return found


def header_fields(path: Path) -> dict[str, str]:
    """Read the fields of the header of a NRRD or MetaImage file.

    Args:
        path: The file.

    Returns:
        The fields' values by their names, those of a NRRD file in lower case and without blanks.

    Raises:
        UserError: The header is not of the plain form.
    """
    with path.open("rb") as file:
        return _fields(_nrrd_lines(_nrrd_start(file)) if path.suffix.lower() == ".nrrd" else _meta_lines(file))


def _meta(path: Path, file: BinaryIO) -> Voxels:
    fields = _fields(_meta_lines(file))
    sizes = _sizes(fields, "DimSize", _whole(fields, "NDims", 2, 4))
    channels = _whole(fields, "ElementNumberOfChannels", 1, 10_000, 1)
    kind = fields.get("ElementType", "")
    # An array of a type is what a vector image is in old files.
    bytes_each = _META_BYTES.get(kind.removesuffix("_ARRAY"))
    if bytes_each is None:
        raise UserError(f"ElementType is {kind!r}; legal: {', '.join(_META_BYTES)}")
    named = fields["ElementDataFile"]
    local = named in ("LOCAL", "Local", "local")
    if local and fields.get("HeaderSize", "0") != "0":
        raise UserError("HeaderSize is for voxels in a file of their own")
    packed = _true(fields, "CompressedData", False)
    encoding: Encoding = "zlib" if packed else "raw" if _true(fields, "BinaryData", True) else "text"
    length = None
    if packed and (local or "CompressedDataSize" in fields):
        # Without it ITK unpacks nothing of what follows a header, and returns whatever the memory held.
        length = _whole(fields, "CompressedDataSize", 1, 10**10)
    start = file.tell() if local else _whole(fields, "HeaderSize", -1, 10**10, 0)
    values = math.prod(sizes) * channels
    data = path if local else _beside(path, named)
    return Voxels(data, max(start, 0), encoding, values, values * bytes_each, packed=length)


def _meta_lines(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """The "name = value" lines; the last is ElementDataFile, and voxels may follow it."""
    known = {name.lower(): name for name in _META_FIELDS}
    for line in _lines(file):
        if not line.strip(b" "):
            continue
        name, separator, value = (part.strip(b" ") for part in line.partition(b"="))
        # ITK takes a colon for an equals sign, and skips any number of both.
        if not (separator and _META_NAME.fullmatch(name)) or value[:1] in (b"=", b":"):
            raise UserError(f"the header has the line {_shown(line)}, which is not NAME = VALUE")
        text = name.decode("ascii")
        if known.get(text.lower(), text) != text:
            raise UserError(f"the header has the field {text}, which must be written {known[text.lower()]}")
        yield text, os.fsdecode(value)
        if text == "ElementDataFile":
            return
    raise UserError("the header does not end with ElementDataFile")


def _nrrd(path: Path, file: BinaryIO) -> Voxels:
    fields = _fields(_nrrd_lines(_nrrd_start(file)))
    sizes = _sizes(fields, "sizes", _whole(fields, "dimension", 2, 5))
    kind, named = " ".join(fields.get("type", "").lower().split()), fields.get("encoding", "").lower().strip()
    bytes_each = next((size for size, names in _NRRD_BYTES.items() if kind in names), None)
    if bytes_each is None:
        raise UserError(f"type is {kind!r}; legal: {', '.join(sum(_NRRD_BYTES.values(), ()))}")
    if named not in _NRRD_ENCODINGS:
        raise UserError(f"encoding is {named!r}; legal: {', '.join(_NRRD_ENCODINGS)}")
    encoding = _NRRD_ENCODINGS[named]
    _whole(fields, "lineskip", 0, 0, 0)
    skipped = _whole(fields, "byteskip", -1 if encoding == "raw" else 0, 10**10, 0)
    detached = fields.get("datafile")
    data, start = (path, file.tell()) if detached is None else (_beside(path, detached), 0)
    values = math.prod(sizes)
    return Voxels(data, start, encoding, values, values * bytes_each, max(skipped, 0))


def _nrrd_start(file: BinaryIO) -> Iterator[bytes]:
    """The lines after the first one, which says that this is NRRD."""
    lines = _lines(file)
    magic = next(lines, b"")
    if not re.fullmatch(rb"NRRD000[1-5]", magic):
        raise UserError(f"the file begins with {_shown(magic)}, not with NRRD0001 to NRRD0005")
    return lines


def _nrrd_lines(lines: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    """The "field: value" lines up to the empty line; comments and "key:=value" pairs mean nothing here."""
    for line in lines:
        if not line:
            return
        name, separator, value = line.partition(b": ")
        if line.startswith(b"#") or b":=" in name or (not separator and b":=" in line):
            continue
        if not separator:
            raise UserError(f"the header has the line {_shown(line)}, which is not FIELD: VALUE")
        # ITK takes a field for the same whatever its case, and two of them with a blank or without one.
        yield os.fsdecode(name).lower().replace(" ", ""), os.fsdecode(value.lstrip(b" "))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends (LF or CR LF), up to a length that no header has."""
    while file.tell() < _LONGEST_HEADER:
        line = file.readline(_LONGEST_HEADER)
        if not line:
            return
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if _CONTROL.search(line):
            raise UserError(f"the header has the line {_shown(line)}, which holds a control character")
        yield line
    raise UserError(f"the header is longer than {_LONGEST_HEADER} bytes")


def _shown(line: bytes) -> str:
    return repr(line[:50].decode("latin-1"))


def _fields(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Fields by their names; ITK takes the last of two, and this must not read another one."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise UserError(f"the header has the field {name!r} twice")
        found[name] = value
    return found


def _true(fields: Mapping[str, str], name: str, otherwise: bool) -> bool:
    """A yes or no as ITK reads it: by the first letter."""
    value = fields.get(name, "")
    return value[0] in "Tt1" if value else otherwise


def _whole(fields: Mapping[str, str], name: str, least: int, most: int, otherwise: int | None = None) -> int:
    if name not in fields and otherwise is not None:
        return otherwise
    text = fields.get(name, "nothing").strip(" ")
    if not re.fullmatch(r"-?[0-9]{1,11}", text, re.ASCII) or not least <= int(text) <= most:
        raise UserError(f"{name} must be a whole number from {least} to {most}, got {text[:50]}")
    return int(text)


def _sizes(fields: Mapping[str, str], name: str, dimensions: int) -> tuple[int, ...]:
    parts = fields.get(name, "").split()
    if len(parts) != dimensions or not all(re.fullmatch(r"[0-9]{1,10}", part, re.ASCII) for part in parts):
        raise UserError(f"{name} must be {dimensions} whole numbers, got {' '.join(parts)[:50]!r}")
    sizes = tuple(map(int, parts))
    if not all(1 <= size < 2**31 for size in sizes):
        raise UserError(f"{name} must be at least 1, got {sizes}")
    return sizes


def _beside(path: Path, named: str) -> Path:
    """The data file that a header names, in the header's own folder. Raises ValueError for anything else."""
    if named.startswith("LIST") or "%" in named:
        raise UserError(f"its voxels lie in several files ({named[:50]}), which cannot be read: write one file")
    # ITK takes "-" for its standard input, a second letter ":" for a drive, and cuts off what ends a name oddly.
    odd = not named or named == "-" or named[1:2] == ":" or not ("!" <= named[-1] <= "~") or named.startswith(" ")
    data = path.parent / named
    folders = (path.parent.resolve(), path.resolve().parent)  # both may be links into one store
    if odd or not any(data.resolve().is_relative_to(folder) for folder in folders):
        raise UserError(f"its data file {named!r} must lie in the same folder")
    if not data.is_file():  # nor a pipe or a device, which may never end
        raise UserError(f"its data file {named!r} is not there, or no ordinary file")
    return data


def _unpacked(voxels: Voxels) -> Iterator[bytes]:
    """The bytes of a packed stream, block by block, however well they were packed."""
    with voxels.path.open("rb") as file:
        file.seek(voxels.start)
        if voxels.encoding == "zlib":
            yield from _inflated(file, sys.maxsize if voxels.packed is None else voxels.packed)
        else:
            stream: BinaryIO | gzip.GzipFile | bz2.BZ2File
            with gzip.GzipFile(fileobj=file) if voxels.encoding == "gzip" else bz2.BZ2File(file) as stream:
                read: Callable[[], bytes] = lambda: stream.read(_BLOCK)  # noqa: E731
                yield from iter(read, b"")


def _inflated(file: BinaryIO, left: int) -> Iterator[bytes]:
    """What `left` bytes of a zlib (or gzip) stream unpack to."""
    inflate = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    while block := file.read(min(_BLOCK, left)):
        left -= len(block)
        while block:
            yield inflate.decompress(block, _BLOCK)
            if inflate.eof:
                return
            block = inflate.unconsumed_tail
    raise EOFError("the packed voxels end before their stream does")
