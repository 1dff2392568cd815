"""What the readers of all file types share: suffixes, checks of the geometry, and errors that name the file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxward.core.case import Case
from voxward.core.errors import UserError
from voxward.core.names import composed
from voxward.core.types import Size3
from voxward.data.remarks import quiet_library

# The two-part suffix first: "x.nii.gz" also ends in ".gz", never in ".nii".
NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
# A header and its voxels, in two files.
PAIR_SUFFIXES = (".hdr", ".img")
PICTURE_SUFFIXES = (".png", ".tif", ".tiff")
SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES + PAIR_SUFFIXES + PICTURE_SUFFIXES

# Deflate (gzip, zlib) makes at most so many bytes of one.
MOST_INFLATED = 1032


class UnreadKindError(UserError):
    """A file may be sound, and is of a kind that is not read."""


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says of itself before its voxels are read.

    Attributes:
        shape: The spatial shape (i, j, k).
        channels: The number of channels.
        affine: (4, 4), from voxel indices to millimetres, RAS+.
        dimensions: The number of axes; 2 for a 2D file.
    """

    shape: Size3
    channels: int
    affine: np.ndarray
    dimensions: int


def volume_suffix(path: Path) -> str:
    """Return the suffix that says the file type, such as ".nii.gz".

    Raises:
        UserError: Files of this type cannot be read; the message lists the legal types.
    """
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise UserError(f"{path}: unknown file type; legal: {', '.join(SUFFIXES)}")


def volume_stem(path: Path) -> str:
    """Return the file name without the suffix that says its type: "case_1" for "case_1.nii.gz".

    An accent is written in one form, whichever the disk has: see `core.names`.

    Raises:
        UserError: Files of this type cannot be read; the message lists the legal types.
    """
    return composed(path.name[: -len(volume_suffix(path))])


def result_suffix(path: Path) -> str:
    """Return the suffix of what is made from a file: its own, but `.nii.gz` for one of a pair.

    Args:
        path: The file, or the first file of a case.

    Raises:
        UserError: Files of this type cannot be read; the message lists the legal types.
    """
    suffix = volume_suffix(path)
    return NIFTI_SUFFIXES[0] if suffix in PAIR_SUFFIXES else suffix


def changed_suffix(case: Case) -> str:
    """Return the suffix of a file that holds a case's image with other intensities, in all of its channels.

    It is that of the case's files, but `.nii.gz` where these are pairs, or pictures whose channels come from several
    files or in another order: a picture has one channel or three.

    Args:
        case: The case.

    Raises:
        UserError: Files of this type cannot be read; the message lists the legal types.
    """
    suffix = result_suffix(case.images[0])
    one = len(case.images) == 1 and case.order is None
    return suffix if one or suffix not in PICTURE_SUFFIXES else NIFTI_SUFFIXES[0]


def volumes_among(paths: Iterable[Path]) -> list[Path]:
    """Return which files of one folder are volumes by their names, sorted.

    Names that begin with a dot are other programs' notes. The two files of a pair are one volume, which its `.hdr`
    stands for. Beside volumes of other types, PNG and TIFF files are pictures of them, and no volumes.

    Args:
        paths: The files.
    """
    named = sorted(path for path in paths if path.name.lower().endswith(SUFFIXES) and not path.name.startswith("."))
    scans = [path for path in named if not path.name.lower().endswith(PICTURE_SUFFIXES)]
    return without_partners(scans or named)


def without_partners(paths: Sequence[Path]) -> list[Path]:
    """Return files without every `.img` whose `.hdr` is among them.

    Args:
        paths: The files.
    """
    headers = {path for path in paths if path.suffix.lower() == ".hdr"}
    return [path for path in paths if path in headers or header_path(path) not in headers]


def header_path(path: Path) -> Path:
    """Return the file that stands for a volume: CASE.hdr for CASE.img, any other file itself.

    Args:
        path: The file; CASE.IMG goes with CASE.HDR.
    """
    header = {".img": ".hdr", ".IMG": ".HDR"}.get(path.suffix)
    return path if header is None else path.with_suffix(header)


def voxels_path(path: Path) -> Path:
    """Return the file that holds the voxels: CASE.img for CASE.hdr, any other file itself.

    Args:
        path: The file; CASE.HDR goes with CASE.IMG.
    """
    voxels = {".hdr": ".img", ".HDR": ".IMG"}.get(path.suffix)
    return path if voxels is None else path.with_suffix(voxels)


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on a broken file into an error that names the file.

    Args:
        path: The file that is read within the context.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The reader failed, or refuses what it is.
    """
    if not os.path.isfile(path):  # False, too, for a name that no file can have
        raise FileNotFoundError(f"no file {path}")
    try:
        with quiet_library():
            yield
    except UnreadKindError as error:
        raise UserError(f"{path}: {error}") from error
    except MemoryError as error:
        raise UserError(f"{path}: there is too little memory to read it") from error
    except (ValueError, OSError, EOFError, RuntimeError, OverflowError, zlib.error) as error:
        # ITK gives a paragraph, and "no such file" for a file that is there but too short.
        lines = [line for line in str(error).strip().splitlines() if "No such file" not in line]
        reason = lines[-1] if lines else type(error).__name__
        raise UserError(f"{path} is truncated, corrupt, or not what its name says: {reason}") from error


def affine_fault(affine: np.ndarray) -> str | None:
    """Return what is wrong with an affine, or None if it is a finite, invertible (4, 4) matrix."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return f"affine is not a finite (4, 4) matrix: {affine.tolist()}"
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of the unit columns is free of the voxel size: 1 for orthogonal axes, 0 for parallel ones.
    if lengths.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-4:
        return f"affine is singular: {affine.tolist()}"
    return None
