"""NIfTI-1 and NIfTI-2 files and pairs, through nibabel."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from voxward.core.case import Scaling, Volume
from voxward.core.errors import UserError
from voxward.core.files import atomic_write
from voxward.core.types import Size3
from voxward.data.nifti_geometry import raw_header, refuse_unknown_size, units_per_mm
from voxward.data.remarks import remark
from voxward.data.units import from_mm, in_mm
from voxward.data.volume_file import (
    MOST_INFLATED,
    NIFTI_SUFFIXES,
    PAIR_SUFFIXES,
    Header,
    UnreadKindError,
    affine_fault,
    header_path,
    naming_the_file,
    voxels_path,
)

# Bytes of the headers of NIfTI-1 and NIfTI-2, and of what may lie between a header and the voxels.
_HEADER_1, _HEADER_2, _LONGEST_EXTENSIONS = 348, 540, 1 << 26
_PAIR_MAGIC = (b"ni1", b"ni2")
# The longest axis that a NIfTI-1 header can state.
_LONGEST_AXIS = np.iinfo(np.int16).max
# A qform holds axes at right angles only; so far, in the smallest edge of a voxel, it may miss the affine.
_SHEAR = 1e-3
# How much scans are packed at most, and below how many bytes nobody counts.
_TYPICAL_RATIO, _UNCOUNTED = 50, 1 << 26


def read_header(path: Path) -> Header:
    """Read shape, channels and affine of a NIfTI file, without its voxels.

    Raises:
        UserError: The file is truncated or corrupt; the message names it.
    """
    with naming_the_file(path):
        image = _load(path)
        shape, channels = _layout(image.shape)
        return Header(shape, channels, _affine(image), len(image.shape))


def read(path: Path) -> Volume:
    """Read every voxel of a NIfTI file, as (c, i, j, k).

    Voxels keep the stored number type, or become float32 if the file scales its values.

    Raises:
        UserError: The file is truncated or corrupt; the message names it.
    """
    with naming_the_file(path):
        image = _load(path)
        shape, channels = _layout(image.shape)
        array = _voxels(path, image).reshape((*shape, channels), order="F")
        return Volume(np.moveaxis(array, -1, 0), _affine(image), _scaling(image))


def write(
    path: Path, array: np.ndarray, affine: np.ndarray, template: Path | None = None, scaling: Scaling | None = None
) -> None:
    """Write one NIfTI file with both qform and sform set; a sheared grid has no qform. The file appears as a whole.

    If `template` is a NIfTI file its units are kept. If it also lies in the same place, so are its qform and sform with
    their codes, so that every viewer lays the result over the template, whichever of the two it trusts. An axis that is
    too long for NIfTI-1 makes the file NIfTI-2.

    Args:
        path: The file, which is replaced if it exists.
        array: (i, j), (i, j, k) or (i, j, k, c).
        affine: (4, 4), from voxel indices to millimetres, RAS+.
        template: The image that `array` was made from; None without one.
        scaling: How integers are read as intensities, which goes into the header; None for the array's own values.
    """
    kind = nibabel.Nifti1Image if max(array.shape) <= _LONGEST_AXIS else nibabel.Nifti2Image
    header = kind.header_class()
    header.set_xyzt_units("mm")
    placed = False
    if template is not None and template.name.lower().endswith(NIFTI_SUFFIXES + PAIR_SUFFIXES):
        placed = _take_geometry(header, template, affine)
    header.set_data_dtype(array.dtype)
    stored = from_mm(affine, units_per_mm(header))
    image = kind(array, stored, header)
    if not placed:
        image.set_sform(stored, code=int(header["sform_code"]) or 1)
        image.set_qform(stored, code=int(header["qform_code"]) or 1)
        edge = np.linalg.norm(stored[:3, :3], axis=0).min()
        if not np.allclose(image.header.get_qform(), stored, rtol=1e-6, atol=_SHEAR * edge):
            image.header["qform_code"] = 0  # it cannot say that axes are not at right angles, and must not say another
    if scaling is not None:
        image.header.set_slope_inter(scaling.slope, scaling.intercept)
    with atomic_write(path) as unfinished:
        nibabel.save(image, unfinished)


def _load(path: Path) -> Any:
    """An image of nibabel, whose voxels are not read yet; of a pair, `path` may be either file."""
    path = header_path(path)
    pair = path.name.lower().endswith(PAIR_SUFFIXES)
    header = raw_header(path) if path.is_file() else None
    if pair:
        _refuse_no_pair(path, header)
    _refuse_extensions(path, pair, header)
    if header is not None:
        refuse_unknown_size(header)
    try:
        image = nibabel.load(path)
    except (ImageFileError, HeaderDataError, HeaderTypeError) as error:
        raise UserError(str(error)) from error
    if not isinstance(image, nibabel.Nifti1Pair):  # from which all NIfTI images derive
        raise UserError(f"not a NIfTI file but {type(image).__name__}")
    if image.get_data_dtype().kind not in "iuf":
        raise UserError(f"voxels are {image.get_data_dtype()}; legal: integers and real numbers")
    _refuse_short(path, image)
    return image


def _refuse_no_pair(path: Path, header: Any) -> None:
    """Raise UserError where a file is half of a pair only, or of a pair that does not say what is left."""
    for half in (path, voxels_path(path)):
        if not half.is_file():
            raise UnreadKindError(f"{half.name} is not there: a .hdr and its .img are one volume, and both are needed")
    if header is None:
        raise UnreadKindError(f"{path.name} is not the header of a NIfTI pair")
    if header["magic"].item() not in _PAIR_MAGIC:
        raise UnreadKindError(
            f"{path.name} is the header of an Analyze 7.5 file, which does not say where left and right are: convert "
            "it to NIfTI with the program that wrote it, and look whether left is left"
        )


def _affine(image: Any) -> np.ndarray:
    """The affine that nibabel takes (the sform, else the qform, else the voxel size alone), in mm."""
    return in_mm(image.affine, units_per_mm(image.header))


def _claimed(image: Any) -> int:
    """How many bytes there are up to the end of the voxels, as the header says."""
    return int(image.dataobj.offset) + math.prod(map(int, image.shape)) * int(image.get_data_dtype().itemsize)


def _refuse_short(path: Path, image: Any) -> None:
    """Raise ValueError, before memory is taken, where the file cannot hold the voxels that its header claims."""
    claimed = _claimed(image)
    held = voxels_path(path).stat().st_size
    if image.dataobj.offset < 0:
        raise UserError(f"the header claims that voxels begin at byte {image.dataobj.offset}")
    if path.name.lower().endswith(".gz"):
        # What little is packed of much, or says so of itself, is counted; the rest is what its last bytes say.
        doubtful = _noted_length(path) < claimed or claimed > max(_TYPICAL_RATIO * held, _UNCOUNTED)
        most = held * MOST_INFLATED
        held = _unpacked_bytes(path, claimed) if doubtful and claimed <= most else most
    if claimed > held:
        raise UserError(f"the header claims {claimed} bytes, and the file holds at most {held}")


def _refuse_extensions(path: Path, pair: bool, header: Any) -> None:
    """Raise ValueError where header extensions, which nibabel reads, claim other bytes than lie before the voxels."""
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
        start = file.read(_HEADER_2 + 4)
        order: Literal["little", "big"] = "little"
        if int.from_bytes(start[:4], "big") in (_HEADER_1, _HEADER_2):
            order = "big"
        size = int.from_bytes(start[:4], order)
        if header is not None:  # nibabel looks at the number of axes first
            order = "big" if header.endianness == ">" else "little"
        if size not in (_HEADER_1, _HEADER_2) or start[size : size + 1] in (b"", b"\x00"):
            return  # no header that nibabel takes, or no extension
        end = path.stat().st_size if pair else _voxels_start(start, size, order)
        if not size + 4 <= end <= _LONGEST_EXTENSIONS:
            raise UserError(f"the header's extensions claim to end at byte {end}")
        place, rest = size + 4, start[size + 4 :] + file.read(max(end - len(start), 0))
        least = 1 if pair else 16  # of a pair, nibabel reads up to the end of the header's file
        while end - place >= least:
            length = int.from_bytes(rest[place - size - 4 : place - size], order, signed=True)
            if not 8 <= length <= end - place:
                raise UserError(f"a header extension claims {length} bytes of {end - place}")
            place += length


def _voxels_start(header: bytes, size: int, order: Literal["little", "big"]) -> int:
    """The byte of a file at which its header says that the voxels begin."""
    if size == _HEADER_2:
        return int.from_bytes(header[168:176], order, signed=True)
    (start,) = struct.unpack("<f" if order == "little" else ">f", header[108:112])
    return int(start) if math.isfinite(start) else -1


def _noted_length(path: Path) -> int:
    """The last four bytes of a .gz file: its unpacked length, unless it has several parts, or more than 4 GiB."""
    with path.open("rb") as file:
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def _unpacked_bytes(path: Path, enough: int) -> int:
    """How many bytes a .gz file holds, counted up to `enough` in bounded memory."""
    found = 0
    with gzip.open(path, "rb") as stream:
        while found < enough and (block := _read_block(stream)):
            found += len(block)
    return found


def _read_block(stream: gzip.GzipFile) -> bytes | None:
    """Up to 1 MiB of a .gz file; None where something follows that is no gzip."""
    try:
        return stream.read(1 << 20)
    except gzip.BadGzipFile as error:
        # A damaged stream says so in other words, and a file that is no gzip at all was refused before.
        if "Not a gzipped file" not in str(error):
            raise
        return None


def _layout(shape: tuple[int, ...]) -> tuple[Size3, int]:
    """Spatial shape and channel count; a fifth axis holds the components of a vector, as the standard has it."""
    if len(shape) == 5 and shape[3] == 1:
        shape = (*shape[:3], shape[4])
    if not 2 <= len(shape) <= 4:
        raise UserError(f"shape {shape} is not (i, j), (i, j, k), or (i, j, k, channel)")
    i, j, k, channels = (*shape, 1, 1)[:4]
    return (i, j, k), channels


def _voxels(path: Path, image: Any) -> np.ndarray:
    if not path.name.lower().endswith(".gz"):
        # Not mapped: a mapped file that is cut short later kills the process instead of raising.
        path = header_path(path)
        spare = voxels_path(path).stat().st_size - _claimed(image)
        if spare > 0:
            remark(voxels_path(path), f"has {spare} bytes after its voxels, which are not read")
        return _scaled(type(image).load(path, mmap=False).dataobj)
    with gzip.open(path, "rb") as stream:
        array = _scaled(type(image).from_stream(stream).dataobj)
        spare = 0
        while block := _read_block(stream):
            spare += len(block)  # the checksum is compared at the end of the stream only
    if spare:
        remark(path, f"has {spare} bytes after its voxels, which are not read")
    if block is None:
        remark(path, "has bytes after its gzip stream, which are not read: was something appended to it?")
    return array


def _scaling(image: Any) -> Scaling | None:
    kind, proxy = image.get_data_dtype(), image.dataobj
    if kind.kind not in "iu" or (proxy.slope, proxy.inter) == (1.0, 0.0):
        return None
    found = Scaling(kind.name, float(proxy.slope), float(proxy.inter))
    return found if found.reversible else None


def _scaled(proxy: Any) -> np.ndarray:
    if (proxy.slope, proxy.inter) != (1.0, 0.0):
        scaled: np.ndarray = np.asarray(proxy, dtype=np.float32)
        return scaled
    stored = np.asarray(proxy.get_unscaled())
    native: np.ndarray = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return native


def _take_geometry(header: Any, template: Path, affine: np.ndarray) -> bool:
    """Give a header the template's units, and its qform and sform if they say what is wanted; whether they do."""
    with naming_the_file(template):
        source = _load(template)
    header["xyzt_units"] = source.header["xyzt_units"]
    found = _affine(source)
    edge = np.linalg.norm(affine[:3, :3], axis=0).min()
    if affine_fault(found) is not None or not np.allclose(found, affine, rtol=2e-7, atol=1e-5 * edge):
        return False
    spatial = (
        "quatern_b",
        "quatern_c",
        "quatern_d",
        "qoffset_x",
        "qoffset_y",
        "qoffset_z",
        "srow_x",
        "srow_y",
        "srow_z",
    )
    for field in (*spatial, "qform_code", "sform_code"):
        header[field] = source.header[field]
    header["pixdim"][:4] = source.header["pixdim"][:4]
    return True
