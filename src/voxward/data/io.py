"""Volumes from and to files. NIfTI through nibabel, PNG and TIFF through Pillow; NRRD and MetaImage through SimpleITK.

Every function may be called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from voxward.core.case import Case, Scaling, Volume
from voxward.core.choices import AFFINE_TOLERANCE
from voxward.core.errors import UserError
from voxward.data import itk, nifti, pictures
from voxward.data.places import apart, label_fault
from voxward.data.volume_file import (
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    PAIR_SUFFIXES,
    PICTURE_SUFFIXES,
    SUFFIXES,
    Header,
    affine_fault,
    volume_stem,
    volume_suffix,
)

__all__ = [
    "SUFFIXES",
    "Header",
    "integer_label",
    "order_fault",
    "read_case",
    "read_header",
    "read_image",
    "read_label",
    "read_truth",
    "volume_stem",
    "volume_suffix",
    "write_image",
    "write_label",
]

# A value scaled by the header of its file misses its integer by rounding; interpolation misses by far more.
_INTEGER_TOLERANCE = 1e-3
_LABEL_TYPES = (np.uint8, np.int16, np.int32)
_PNG_LABEL_TYPES = (np.uint8, np.uint16)
_IMAGE_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def read_header(path: Path) -> Header:
    """Read shape, channels and affine of a file, without its voxels.

    Args:
        path: A NIfTI, NRRD, MetaImage, PNG or TIFF file, or either file of a NIfTI pair.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is truncated or corrupt, or its type is unknown.
        ImportError: The file type needs SimpleITK, which is not installed.
    """
    found: Header = _module(path).read_header(path)
    return found


def read_image(paths: Sequence[Path | str], affine_tolerance: float = AFFINE_TOLERANCE) -> Volume:
    """Read an image from one file with all channels, or from one file per channel.

    Args:
        paths: The files, at least one.
        affine_tolerance: How far the corners of two files may lie apart, in the smallest voxel edge. The first file's
            affine counts.

    Returns:
        The image (c, i, j, k); a 2D file has k = 1. Voxels keep the number type that they are stored in. If a NIfTI
        header scales them (scl_slope, scl_inter) they are float32 in the scaled unit, and the volume says how (for
        several files: if all of them say the same). The affine is what the file says and is not judged here.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: A file is truncated or corrupt, or files disagree in shape or affine; the message names the files.
        ImportError: The file type needs SimpleITK, which is not installed.
    """
    if not paths:
        raise UserError("paths must name at least one file, got none")
    files = [Path(path) for path in paths]
    volumes = [_read(path) for path in files]
    if len(volumes) == 1:
        return volumes[0]
    for path, volume in zip(files, volumes, strict=True):
        if volume.array.shape[0] != 1:
            raise UserError(f"{path} has {volume.array.shape[0]} channels; files of one channel each may be combined")
        _refuse_disagreement(files[0], volumes[0], path, volume, affine_tolerance)
    scaling = volumes[0].scaling if len({volume.scaling for volume in volumes}) == 1 else None
    return Volume(np.concatenate([volume.array for volume in volumes]), volumes[0].affine, scaling)


def read_case(case: Case) -> Volume:
    """Read the image of a case, as the case says: with its channels in order, and NaN as 0 where that is asked for.

    Args:
        case: The case.

    Returns:
        The image (c, i, j, k), see `read_image`.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: A file is truncated or corrupt, files disagree, the order names a channel that is not there, or the
            image holds infinite voxels, or NaN where it is not read as 0; the message names file and channel.
        ImportError: The file type needs SimpleITK, which is not installed.
    """
    volume = read_image(case.images, case.affine_tolerance)
    array = volume.array
    if case.order is not None:
        if fault := order_fault(case, len(array)):
            raise UserError(f"case {case.id!r}: {fault}")
        array = array[list(case.order)]
    if array.dtype.kind == "f":
        array = _finite(case, array)
    return replace(volume, array=array)


def read_truth(case: Case, image: Volume) -> Volume:
    """Read the label of a case, and place it like the image.

    Args:
        case: The case, with a label.
        image: The image of the case.

    Returns:
        The label (i, j, k), with the image's affine.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The case has no label, its file is none, or it lies elsewhere than the image by more than the case
            allows.
    """
    if case.label is None:
        raise UserError("has no label")
    label = read_label(case.label)
    if (fault := label_fault(image, label, case.affine_tolerance)) is not None:
        raise UserError(f"{fault} ({case.label})")
    return replace(label, affine=image.affine)


def _finite(case: Case, array: np.ndarray) -> np.ndarray:
    """The image of a case without NaN, where the case says that NaN is 0; every other voxel must be finite."""
    # Channel by channel: a mask of the whole image takes memory, too.
    if all(np.isfinite(channel).all() for channel in array):
        return array
    nan, infinite = ([int(test(channel).sum()) for channel in array] for test in (np.isnan, np.isinf))
    if any(infinite):
        raise UserError(f"{_where(case, infinite, array[0].size)} are infinite: mend the file")
    if not case.nan_as_zero:
        raise UserError(f"{_where(case, nan, array[0].size)} hold NaN: mend the file, or read NaN as 0 with --nan zero")
    return np.where(np.isnan(array), array.dtype.type(0), array)


def _where(case: Case, counts: Sequence[int], size: int) -> str:
    """The file and channel with the first faulty voxels, their number, and that of all voxels of the channel."""
    channel = next(n for n, count in enumerate(counts) if count)
    stored = channel if case.order is None else case.order[channel]
    several = len(case.images) > 1
    path, place = (case.images[stored], 0) if several else (case.images[0], stored)
    where = f", channel {place}" if len(counts) > 1 and not several else ""
    others = f" (and {sum(counts[channel + 1 :])} of other channels)" if any(counts[channel + 1 :]) else ""
    return f"{path}{where}: {counts[channel]} of {size} voxels{others}"


def order_fault(case: Case, channels: int) -> str | None:
    """Return why the channels of a case's files cannot be put into the order that the case has; None if they can.

    Args:
        case: The case.
        channels: The number of channels in its files.
    """
    if case.order is None:
        return None
    if case.channels is not None and channels != case.channels:
        return f"its files have {channels} channels, but {case.channels} are named"
    if not all(0 <= channel < channels for channel in case.order):
        return f"the files have {channels} channels, and cannot give {case.order}"
    return None


def read_label(path: Path) -> Volume:
    """Read a label.

    Args:
        path: A file with one channel of integers, or of floats that are whole numbers.

    Returns:
        The label (i, j, k), in the stored integer type, or in the smallest one that holds a file of floats.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is broken, has several channels, or holds values that are no integers; the message names it.
    """
    volume = _read(path)
    if volume.array.shape[0] != 1:
        raise UserError(f"{path}: a label has one channel, this file has {volume.array.shape[0]}")
    try:
        return Volume(integer_label(volume.array[0]), volume.affine)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def integer_label(array: np.ndarray) -> np.ndarray:
    """Turn floats that are whole numbers into integers; integers are returned as they are.

    Args:
        array: Label values in any shape.

    Returns:
        The same values in an integer type.

    Raises:
        UserError: A value is no integer; the message names one.
    """
    if array.dtype.kind in "iu":
        return array
    whole = np.rint(array)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(array - whole) <= _INTEGER_TOLERANCE)  # so that NaN and infinity are wrong too
    if wrong.any():
        raise UserError(f"label values must be integers, got {array[wrong][0]:g} ({wrong.sum()} such voxels)")
    return _smallest_integers(whole)


def write_label(path: Path, label: np.ndarray, affine: np.ndarray, template: Path | None = None) -> None:
    """Write a label, as the smallest of uint8, int16 and int32 that holds its values. The file appears as a whole.

    A PNG file has uint8 or uint16.

    Args:
        path: The file, whose suffix decides the type. A PNG or TIFF file takes one slice.
        label: Integers (i, j, k).
        affine: (4, 4), from voxel indices to millimetres, RAS+.
        template: The image that was segmented. If it is 2D, a 2D file is written; a template of the same
            file type hands on its units, and a NIfTI template in the same place its qform and sform, with their codes.

    Raises:
        UserError: The label is not of integers, the affine is bad, or the file type is unknown; nothing is written
            then.
    """
    if label.dtype.kind not in "iub" or label.ndim != 3:
        raise UserError(f"label must be integers of shape (i, j, k), got {label.dtype} {label.shape}")
    array = _smallest_integers(label, _PNG_LABEL_TYPES if volume_suffix(path) == ".png" else _LABEL_TYPES)
    if template is not None and read_header(template).dimensions == 2:
        if label.shape[2] != 1:
            raise UserError(f"{template} is 2D, but the label has shape {label.shape}")
        array = array[:, :, 0]
    _write(path, array, affine, template)


def write_image(
    path: Path, array: np.ndarray, affine: np.ndarray, scaling: Scaling | None = None, template: Path | None = None
) -> None:
    """Write an image in its own number type; channels become the last axis. The file appears as a whole.

    Args:
        path: The file, whose suffix decides the type. A PNG or TIFF file takes one slice in a number type that it has,
            with pixels of 1 mm.
        array: Intensities (c, i, j, k) or (i, j, k).
        affine: (4, 4), from voxel indices to millimetres, RAS+.
        scaling: For integers in a NIfTI file, how they are read as intensities; None writes the array's own values.
        template: The image that the array was made from, which hands on its units and, to a NIfTI file in the same
            place, its qform and sform.

    Raises:
        UserError: Files cannot hold such a number type or shape, or the scaling does not fit the array or the file
            type.
    """
    if scaling is not None and (volume_suffix(path) not in NIFTI_SUFFIXES or array.dtype.name != scaling.kind):
        raise UserError(f"scaling needs a NIfTI file and {scaling.kind}, got {path.name} and {array.dtype}")
    if array.dtype.name not in _IMAGE_TYPES or array.ndim not in (3, 4):
        raise UserError(
            f"array must be (i, j, k) or (c, i, j, k) of {', '.join(_IMAGE_TYPES)}, got {array.dtype} {array.shape}"
        )
    channels = array if array.ndim == 4 else array[None]
    _write(path, channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1), affine, template, scaling)


def _module(path: Path) -> ModuleType:
    """The module that reads files of a type."""
    suffix = volume_suffix(path)
    if suffix in PICTURE_SUFFIXES:
        return pictures
    return itk if suffix in ITK_SUFFIXES else nifti


def _read(path: Path) -> Volume:
    found: Volume = _module(path).read(path)
    return found


def _write(
    path: Path, array: np.ndarray, affine: np.ndarray, template: Path | None, scaling: Scaling | None = None
) -> None:
    if (fault := affine_fault(affine)) is not None:
        raise UserError(f"cannot write {path}: {fault}")
    suffix = volume_suffix(path)
    if suffix in PAIR_SUFFIXES:
        raise UserError(f"cannot write {path}: pairs of files are only read; write a {NIFTI_SUFFIXES[0]} file")
    if suffix in PICTURE_SUFFIXES:
        pictures.write(path, array, affine)
    elif suffix in NIFTI_SUFFIXES:
        nifti.write(path, array, affine, template, scaling)
    else:
        itk.write(path, array, affine, template)


def _refuse_disagreement(first_path: Path, first: Volume, path: Path, volume: Volume, tolerance: float) -> None:
    if first.shape != volume.shape:
        raise UserError(f"{first_path} and {path} differ in shape: {first.shape} and {volume.shape}")
    if (found := apart(first.affine, volume.affine, first.shape)).exceeds(tolerance):
        raise UserError(f"{first_path} and {path} differ in affine: {found}")


def _smallest_integers(array: np.ndarray, kinds: Sequence[type[np.integer[Any]]] = _LABEL_TYPES) -> np.ndarray:
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    for kind in kinds:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise UserError(f"label values must lie within {np.dtype(kinds[-1])}, got {low:g} to {high:g}")
