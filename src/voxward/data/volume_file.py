"""What the readers of all file types share: suffixes, checks of the geometry, and errors that name the file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxward.core.errors import UserError
from voxward.core.names import composed
from voxward.core.types import Size3
from voxward.data.remarks import quiet_library

# The two-part suffix first: "x.nii.gz" also ends in ".gz", never in ".nii".
NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES

# Deflate (gzip, zlib) makes at most so many bytes of one.
MOST_INFLATED = 1032


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


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on a broken file into an error that names the file.

    Args:
        path: The file that is read within the context.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The reader failed.
    """
    if not os.path.isfile(path):  # False, too, for a name that no file can have
        raise FileNotFoundError(f"no file {path}")
    try:
        with quiet_library():
            yield
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
