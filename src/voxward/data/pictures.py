"""PNG and TIFF files of one 2D image, through Pillow: grey, or three colours as three channels.

Neither type says where left is or, in a way that can be trusted, how large a pixel is. So axis 0 runs along a row and
axis 1 down the columns, as ITK has it: to the patient's left and back, with pixels of 1 mm. The third axis has one
voxel, as of every 2D file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.files import atomic_write
from voxward.data.picture_header import Picture, png_picture, tiff_picture
from voxward.data.places import apart
from voxward.data.volume_file import NIFTI_SUFFIXES, Header, naming_the_file, volume_suffix

_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
_KINDS = {".png": ("uint8", "uint16"), ".tif": ("uint8", "uint16", "int16", "int32", "float32")}
_COLOURS = 3
# The TIFF tag that says how the bits of a number are meant, and its value for integers with a sign.
_SAMPLE_FORMAT, _SIGNED = 339, 2
# How far a place may lie from that of a picture, in pixels: it was computed.
_ROUNDING = 1e-3


def read_header(path: Path) -> Header:
    """Read shape and channels of a PNG or TIFF file, without its pixels.

    Raises:
        UserError: The file is truncated or corrupt, or of a kind that is not read; the message names it.
    """
    with naming_the_file(path), _in_one_way(), path.open("rb") as file:
        found = png_picture(file) if _is_png(path) else tiff_picture(file, TiffImageFile(file))
        return Header((found.width, found.height, 1), found.channels, _AFFINE.copy(), 2)


def read(path: Path) -> Volume:
    """Read every pixel of a PNG or TIFF file, as (c, i, j, 1) in the stored number type.

    Raises:
        UserError: The file is truncated or corrupt, or of a kind that is not read; the message names it.
    """
    with naming_the_file(path), _in_one_way(), path.open("rb") as file:
        if _is_png(path):
            found = png_picture(file, whole=True)
            file.seek(0)
            image: Image.Image = PngImageFile(file)
        else:
            opened = TiffImageFile(file)
            found, image = tiff_picture(file, opened), opened
        return Volume(_pixels(image, found), _AFFINE.copy())


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a PNG or TIFF file without loss. The file appears as a whole.

    Args:
        path: The file, which is replaced if it exists.
        array: (i, j) or (i, j, 1) in a number type of the file; or (i, j, 1, 3) of uint8, which are colours.
        affine: (4, 4), which must be the one that every picture is read with.

    Raises:
        UserError: The file cannot hold such an array, or such a place.
    """
    kinds = _KINDS[".png" if _is_png(path) else ".tif"]
    kind = array.dtype.name
    plane = array[:, :, 0] if array.ndim > 2 and array.shape[2] == 1 else array
    colours = plane.ndim == 3 and plane.shape[2] == _COLOURS
    if not (plane.ndim == 2 or colours) or 0 in plane.shape:
        raise UserError(f"cannot write {path}: a picture is one slice with 1 or {_COLOURS} channels, got {array.shape}")
    if kind not in kinds or (colours and kind != "uint8"):
        legal = "uint8" if colours else ", ".join(kinds)
        raise UserError(f"cannot write {path}: its numbers are {kind}; legal: {legal}")
    if apart(affine, _AFFINE, (plane.shape[0], plane.shape[1], 1)).exceeds(_ROUNDING):
        raise UserError(
            f"cannot write {path}: a picture cannot say how large its pixels are and where it lies; write a "
            f"{NIFTI_SUFFIXES[0]} file"
        )
    rows = np.ascontiguousarray(plane.swapaxes(0, 1))
    with atomic_write(path) as unfinished:
        if _is_png(path):
            Image.fromarray(rows).save(unfinished, format="PNG")
        elif kind == "int16":  # Pillow has no such image, but any name for its bits
            image = Image.fromarray(rows.view(np.uint16))
            image.save(unfinished, format="TIFF", compression="tiff_adobe_deflate", tiffinfo={_SAMPLE_FORMAT: _SIGNED})
        else:
            Image.fromarray(rows).save(unfinished, format="TIFF", compression="tiff_adobe_deflate")


def _is_png(path: Path) -> bool:
    return volume_suffix(path) == ".png"


def _pixels(image: Image.Image, found: Picture) -> np.ndarray:
    """The pixels (c, i, j, 1) of an opened file."""
    rows = np.asarray(image)
    stored = rows.reshape(*rows.shape[:2], -1)
    if stored.shape != (found.height, found.width, found.channels):
        raise UserError(f"it holds pixels of shape {stored.shape}, and claims another one")
    return np.ascontiguousarray(stored.astype(found.kind, copy=False).transpose(2, 1, 0))[..., None]


@contextmanager
def _in_one_way() -> Iterator[None]:
    """Turn what Pillow raises for broken files into a ValueError; it checks little before it uses a field."""
    try:
        yield
    except (
        SyntaxError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        AssertionError,
        struct.error,
    ) as error:
        raise UserError(str(error) or type(error).__name__) from error
