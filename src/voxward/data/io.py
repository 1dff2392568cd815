"""Volumes from and to files. NIfTI through nibabel; NRRD and MetaImage through SimpleITK where it is installed.

Every function may be called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from voxward.core.case import Scaling, Volume
from voxward.core.errors import UserError
from voxward.data import itk, nifti
from voxward.data.volume_file import (
    NIFTI_SUFFIXES,
    SUFFIXES,
    Header,
    affine_fault,
    same_affine,
    volume_stem,
    volume_suffix,
)

__all__ = [
    "SUFFIXES",
    "Header",
    "integer_label",
    "read_header",
    "read_image",
    "read_label",
    "volume_stem",
    "volume_suffix",
    "write_image",
    "write_label",
]

# A value scaled by the header of its file misses its integer by rounding; interpolation misses by far more.
_INTEGER_TOLERANCE = 1e-3
_LABEL_TYPES = (np.uint8, np.int16, np.int32)
_IMAGE_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def read_header(path: Path) -> Header:
    """Shape, channels and affine of a file, without reading its voxels. Raises like `read_image`."""
    return nifti.read_header(path) if volume_suffix(path) in NIFTI_SUFFIXES else itk.read_header(path)


def read_image(paths: Sequence[Path]) -> Volume:
    """Read one file with all channels, or one file per channel; the array is (c, i, j, k), 2D files have k = 1.

    Voxels keep the type they are stored in; where a NIfTI header scales them (scl_slope, scl_inter) they are float32
    in the scaled unit, and the volume says how (files of several channels: where all say the same). The affine is what
    the file says and is not judged here.

    Raises FileNotFoundError, ValueError naming a file that is truncated or corrupt or the files that disagree in
    shape or affine, ImportError when the type needs SimpleITK and it is not installed.
    """
    if not paths:
        raise UserError("paths must name at least one file, got none")
    volumes = [_read(path) for path in paths]
    if len(volumes) == 1:
        return volumes[0]
    for path, volume in zip(paths, volumes, strict=True):
        if volume.array.shape[0] != 1:
            raise UserError(f"{path} has {volume.array.shape[0]} channels; files of one channel each may be combined")
        _refuse_disagreement(paths[0], volumes[0], path, volume)
    scaling = volumes[0].scaling if len({volume.scaling for volume in volumes}) == 1 else None
    return Volume(np.concatenate([volume.array for volume in volumes]), volumes[0].affine, scaling)


def read_label(path: Path) -> Volume:
    """Read a label as (i, j, k) integers: the stored type, or the smallest that holds a file of whole floats.

    Raises FileNotFoundError, and ValueError naming the file when it is broken, has several channels, or holds values
    that are no integers.
    """
    volume = _read(path)
    if volume.array.shape[0] != 1:
        raise UserError(f"{path}: a label has one channel, this file has {volume.array.shape[0]}")
    try:
        return Volume(integer_label(volume.array[0]), volume.affine)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def integer_label(array: np.ndarray) -> np.ndarray:
    """Whole-valued floats -> integers; integers pass. Raises ValueError naming a value that is no integer."""
    if array.dtype.kind in "iu":
        return array
    whole = np.rint(array)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(array - whole) <= _INTEGER_TOLERANCE)  # so that NaN and infinity are wrong too
    if wrong.any():
        raise UserError(f"label values must be integers, got {array[wrong][0]:g} ({wrong.sum()} such voxels)")
    return _smallest_integers(whole)


def write_label(path: Path, label: np.ndarray, affine: np.ndarray, template: Path | None = None) -> None:
    """Write a label (i, j, k) of integers, atomically, as the smallest of uint8, int16, int32 that holds its values.

    affine: (4, 4), voxel indices to mm, RAS+. template: the image that was segmented; a 2D file gives a 2D file, and a
    NIfTI template in the same place hands on its units, qform and sform, with their codes.

    Raises ValueError for anything but integers, a bad affine, or an unknown file type; then nothing is written.
    """
    if label.dtype.kind not in "iub" or label.ndim != 3:
        raise UserError(f"label must be integers of shape (i, j, k), got {label.dtype} {label.shape}")
    array = _smallest_integers(label)
    if template is not None and read_header(template).dimensions == 2:
        if label.shape[2] != 1:
            raise UserError(f"{template} is 2D, but the label has shape {label.shape}")
        array = array[:, :, 0]
    _write(path, array, affine, template)


def write_image(path: Path, array: np.ndarray, affine: np.ndarray, scaling: Scaling | None = None) -> None:
    """Write an image (c, i, j, k) or (i, j, k), atomically, in its own number type; channels become the last axis.

    affine: (4, 4), voxel indices to mm, RAS+. scaling: of an array of integers in a NIfTI file, which reads as
    intensities then. Raises ValueError for a type or shape that files cannot hold.
    """
    if scaling is not None and (volume_suffix(path) not in NIFTI_SUFFIXES or array.dtype.name != scaling.kind):
        raise UserError(f"scaling needs a NIfTI file and {scaling.kind}, got {path.name} and {array.dtype}")
    if array.dtype.name not in _IMAGE_TYPES or array.ndim not in (3, 4):
        raise UserError(
            f"array must be (i, j, k) or (c, i, j, k) of {', '.join(_IMAGE_TYPES)}, got {array.dtype} {array.shape}"
        )
    channels = array if array.ndim == 4 else array[None]
    _write(path, channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1), affine, None, scaling)


def _read(path: Path) -> Volume:
    return nifti.read(path) if volume_suffix(path) in NIFTI_SUFFIXES else itk.read(path)


def _write(
    path: Path, array: np.ndarray, affine: np.ndarray, template: Path | None, scaling: Scaling | None = None
) -> None:
    if (fault := affine_fault(affine)) is not None:
        raise UserError(f"cannot write {path}: {fault}")
    if volume_suffix(path) in NIFTI_SUFFIXES:
        nifti.write(path, array, affine, template, scaling)
    else:
        itk.write(path, array, affine)


def _refuse_disagreement(first_path: Path, first: Volume, path: Path, volume: Volume) -> None:
    if first.shape != volume.shape:
        raise UserError(f"{first_path} and {path} differ in shape: {first.shape} and {volume.shape}")
    if not same_affine(first.affine, volume.affine, first.shape):
        raise UserError(
            f"{first_path} and {path} differ in affine: {first.affine.tolist()} and {volume.affine.tolist()}"
        )


def _smallest_integers(array: np.ndarray) -> np.ndarray:
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    for kind in _LABEL_TYPES:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise UserError(f"label values must lie within int32, got {low:g} to {high:g}")
