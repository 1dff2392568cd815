"""What PNG and TIFF files say of themselves, judged before their pixels take memory."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from voxward.core.errors import UserError
from voxward.data.volume_file import MOST_INFLATED, UnreadKindError

_PNG = b"\x89PNG\r\n\x1a\n"
_BLOCK = 1 << 20
_GREY, _RGB = 0, 2
_COLOUR_TYPES = {3: "colours of a palette", 4: "grey with transparency", 6: "colours with transparency (RGBA)"}
# The rows and columns of Adam7's passes: where each begins, and how far its pixels lie apart.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))

# TIFF tags.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _ORIENTATION = 256, 257, 258, 259, 262, 266, 274
_SAMPLES, _EXTRA, _FORMAT = 277, 338, 339
_DESCRIPTION, _DEPTH = 270, 32997
# How many bytes a packed one makes at most, by compression: none, LZW, Deflate (two numbers), PackBits.
_UNPACKED = {1: 1, 5: 4096, 8: MOST_INFLATED, 32946: MOST_INFLATED, 32773: 128}
# By what a sample is (1: without a sign, 2: with one, 3: real) and its bits.
_GREY_KINDS = {(1, 8): "uint8", (1, 16): "uint16", (2, 16): "int16", (2, 32): "int32", (3, 32): "float32"}
_PHOTOMETRIC_NAMES = {
    0: "grey in which 0 is white", 3: "colours of a palette", 4: "a mask of transparency", 5: "CMYK colours",
    6: "YCbCr colours", 8: "Lab colours",
}  # fmt: skip
_LEGAL = "8-bit and 16-bit grey, and 8-bit red, green and blue"


@dataclass(frozen=True)
class Picture:
    """What a file claims to hold.

    Attributes:
        width: The pixels of a row.
        height: The number of rows.
        channels: 1 of grey, 3 of colours.
        kind: The name of the number type.
    """

    width: int
    height: int
    channels: int
    kind: str


def png_picture(file: BinaryIO, whole: bool = False) -> Picture:
    """Read what a PNG file claims to hold.

    Args:
        file: The file, at its beginning.
        whole: Whether to go through all of it, with its checksums and the length of its packed pixels, in bounded
            memory: Pillow asks for neither.

    Raises:
        UserError: The file is broken, claims more than it can hold, or is of a kind that is not read.
        zlib.error: The packed pixels are damaged.
    """
    held = _size(file)
    if file.read(8) != _PNG:
        raise UserError("it is no PNG file")
    chunks = _chunks(file, held, whole)
    name, start = next(chunks, (b"", b""))
    if name != b"IHDR" or len(start) != 13:
        raise UserError("it has no header")
    width, height, depth, colour = (int.from_bytes(start[a:b], "big") for a, b in ((0, 4), (4, 8), (8, 9), (9, 10)))
    if colour not in (_GREY, _RGB):
        raise UnreadKindError(
            f"its pixels are {_COLOUR_TYPES.get(colour, f'of the unknown type {colour}')}; legal: {_LEGAL}"
        )
    if (colour, depth) not in ((_GREY, 8), (_GREY, 16), (_RGB, 8)):
        what = "grey" if colour == _GREY else "red, green and blue"
        raise UnreadKindError(f"it has {depth} bits for {what}; legal: {_LEGAL}")
    channels = 1 if colour == _GREY else 3
    _refuse_empty(width, height)
    claimed = _png_bytes(width, height, channels * depth // 8, interlaced=start[12] == 1)
    _refuse_claim(claimed, held * MOST_INFLATED, held)
    _go_through(chunks, claimed if whole else None)
    return Picture(width, height, channels, f"uint{depth}")


def _go_through(chunks: Iterator[tuple[bytes, bytes]], claimed: int | None) -> None:
    """Read the chunks of a PNG file up to its pixels, or with the number of bytes that are claimed all of them."""
    inflate, found, name = zlib.decompressobj(), 0, b""
    for name, data in chunks:
        if name == b"acTL":
            raise UnreadKindError("it is animated: write each picture as a file of its own")
        if name == b"IDAT":
            if claimed is None:
                return
            found += sum(map(len, _inflated(inflate, data)))
    if name != b"IEND":
        raise UserError("it ends before its last part")
    if claimed is not None and not (inflate.eof and found == claimed):
        raise UserError(f"its header claims {claimed} bytes of pixels, and it holds {found}")


def _inflated(inflate: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while data and not inflate.eof:
        yield inflate.decompress(data, _BLOCK)
        data = inflate.unconsumed_tail


def _chunks(file: BinaryIO, held: int, checked: bool) -> Iterator[tuple[bytes, bytes]]:
    """The name and the content of each part of a PNG file; without checks, long parts are skipped and empty."""
    while len(start := file.read(8)) == 8:
        length, name = int.from_bytes(start[:4], "big"), start[4:]
        if length > held:
            raise UserError(f"a part of it claims {length} bytes, and the file has {held}")
        if checked or length <= 64:
            content, sum_ = file.read(length), file.read(4)
            if len(content) < length or int.from_bytes(sum_, "big") != zlib.crc32(name + content):
                raise UserError(f"its part {name.decode('latin-1')!r} is damaged")
            yield name, content
        else:
            file.seek(length + 4, 1)
            yield name, b""


def _png_bytes(width: int, height: int, pixel: int, interlaced: bool) -> int:
    """The bytes of all rows, each with a byte that says how it is filtered."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = (
        (-(-(height - top) // down), -(-(width - left) // right))
        for top, left, down, right in passes
        if height > top and width > left
    )
    return sum(rows * (1 + columns * pixel) for rows, columns in sizes)


def tiff_picture(file: BinaryIO, image: TiffImageFile) -> Picture:
    """Read what a TIFF file claims to hold.

    Args:
        file: The file.
        image: The same, as Pillow has opened it; its pixels are not read.

    Raises:
        UserError: The file is broken, claims more than it can hold, or is of a kind that is not read.
    """
    tags = image.tag_v2
    if tags.next or tags.get(_DEPTH, 1) != 1 or _hidden_pages(tags):
        raise UnreadKindError(
            "it has several pages, and nothing says how far apart they lie: write the volume as NIfTI, or each page as "
            "a file of its own"
        )
    width, height, samples = (
        int(tags.get(tag, default)) for tag, default in ((_WIDTH, 0), (_HEIGHT, 0), (_SAMPLES, 1))
    )
    _refuse_empty(width, height)
    for tag, what in ((_ORIENTATION, "Orientation"), (_FILL_ORDER, "FillOrder")):
        if (found := tags.get(tag, 1)) != 1:
            raise UnreadKindError(f"its tag {what} is {found}; legal: 1, which is what all programs understand alike")
    compression = tags.get(_COMPRESSION, 1)
    if compression not in _UNPACKED:
        raise UnreadKindError(f"its compression is number {compression}; legal: none, LZW, Deflate, PackBits")
    kind = _tiff_kind(image, samples)
    if compression != 1 and tags.prefix == b"MM" and kind not in ("uint8", "uint16"):
        # Pillow turns the bytes of each number round twice, and returns other numbers without a word.
        raise UnreadKindError(
            f"its pixels are packed {kind} with the greatest byte first; legal: unpacked, or the least first"
        )
    claimed, held = width * height * samples * np.dtype(kind).itemsize, _size(file)
    _refuse_claim(claimed, held * _UNPACKED[compression], held)
    if image.size != (width, height):
        raise UserError(f"its header claims {width} x {height} pixels, and Pillow reads {image.size}")
    return Picture(width, height, samples, kind)


def _hidden_pages(tags: Mapping[int, Any]) -> bool:
    """Whether one page stands for many, as ImageJ and tifffile write them."""
    description = str(tags.get(_DESCRIPTION, ""))
    counted = re.search(r"^images=(\d+)", description, re.MULTILINE)
    shaped = re.match(r'\{"shape": \[([\d, ]*)\]', description)
    sizes = [int(size) for size in shaped[1].split(",") if size.strip()] if shaped else []
    # tifffile writes (rows, columns), and the number of colours after them.
    pages = sizes[: -3 if int(tags.get(_SAMPLES, 1)) > 1 else -2]
    return (counted is not None and int(counted[1]) > 1) or math.prod(pages) > 1


def _tiff_kind(image: TiffImageFile, samples: int) -> str:
    """The number type of a TIFF file; it must be grey, or have three colours."""
    tags = image.tag_v2
    colour = tags.get(_PHOTOMETRIC, 0)
    if colour not in (1, _RGB):
        raise UnreadKindError(
            f"its pixels are {_PHOTOMETRIC_NAMES.get(colour, f'of the unknown type {colour}')}; legal: {_LEGAL}"
        )
    bits = tuple(tags.get(_BITS, (1,)))
    formats = tuple(tags.get(_FORMAT, (1,)))
    if tags.get(_EXTRA) or samples != (1 if colour == 1 else 3):
        raise UnreadKindError(
            f"it has {samples} values for each pixel, one of which may be transparency; legal: {_LEGAL}"
        )
    same = len({*bits}) == 1 and len({*formats}) == 1
    kind = _GREY_KINDS.get((formats[0], bits[0])) if same and bits else None
    if kind is None or (colour == _RGB and kind != "uint8"):
        names = {1: "integers", 2: "integers with a sign", 3: "real numbers"}
        raise UnreadKindError(
            f"its pixels are {names.get(formats[0], 'of an unknown kind') if formats else 'of no kind'} of "
            f"{' and '.join(map(str, bits))} bits; legal: {_LEGAL}, 16-bit and 32-bit integers with a sign, and 32-bit "
            "real numbers"
        )
    return kind


def _refuse_empty(width: int, height: int) -> None:
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise UserError(f"it claims {width} x {height} pixels")


def _refuse_claim(claimed: int, most: int, held: int) -> None:
    if claimed > most:
        raise UserError(f"its header claims {claimed} bytes of pixels, which {held} bytes cannot hold")


def _size(file: BinaryIO) -> int:
    place = file.tell()
    size = file.seek(0, 2)
    file.seek(place)
    return size
