"""Volumes as small NIfTI files in memory: cut to a box, in few bits, compressed, and at their place in space."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass

import nibabel
import numpy as np

from voxward.core.types import Size3

_LABEL_INTENT = 1002


@dataclass(frozen=True)
class Box:
    """A part of a volume, in voxels of its file.

    Attributes:
        start: The first voxel along each axis.
        stop: The voxel after the last one.
    """

    start: Size3
    stop: Size3

    @classmethod
    def whole(cls, shape: Size3) -> Box:
        """Return the box that holds a whole volume."""
        return cls((0, 0, 0), shape)

    @property
    def size(self) -> int:
        """Return the number of voxels."""
        return math.prod(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Return a view of a volume (i, j, k) in the box."""
        part: np.ndarray = array[tuple(slice(*ends) for ends in zip(self.start, self.stop, strict=True))]
        return part

    def affine(self, affine: np.ndarray) -> np.ndarray:
        """Return the affine of the box, given that of the whole volume."""
        moved = affine.astype(np.float64)
        moved[:3, 3] = (affine @ np.array([*self.start, 1.0]))[:3]
        return moved


def box_around(found: np.ndarray, spacing: tuple[float, float, float], margin_mm: float) -> Box:
    """Return the box of what was found, with a margin.

    Args:
        found: Booleans (i, j, k).
        spacing: Size of a voxel along each axis, in mm.
        margin_mm: How far the box reaches beyond it, in mm.

    Returns:
        The box; the whole volume where nothing was found.
    """
    i, j, k = found.shape
    start, stop = [], []
    for axis, length in enumerate(found.shape):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(found.any(axis=others))
        if not places.size:
            return Box.whole((i, j, k))
        margin = math.ceil(margin_mm / spacing[axis])
        start.append(max(int(places[0]) - margin, 0))
        stop.append(min(int(places[-1]) + 1 + margin, length))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def image_bytes(image: np.ndarray, affine: np.ndarray, steps: int) -> bytes:
    """Return intensities as a gzip NIfTI of int16, whose header scales them to the intensities.

    Args:
        image: Intensities (i, j, k), finite.
        affine: (4, 4), from voxel indices to millimetres, RAS+.
        steps: Into how many steps the intensities are divided that are no integers of 16 bits; at most 65535.

    Returns:
        The file. The least and the greatest intensity are kept; integers of 16 bits are kept as they are.
    """
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    if image.dtype.kind in "iub" and high - low <= steps and np.iinfo(np.int16).min <= low and high <= _GREATEST:
        return _file(image.astype(np.int16), affine, 1.0, 0.0)
    slope = (high - low) / steps or 1.0
    # The lowest intensity is the least number, so that all steps fit into 16 bits.
    base = -32768 if steps > _GREATEST else 0
    stored = np.rint((image.astype(np.float64) - low) / slope) + base
    return _file(stored.astype(np.int16), affine, slope, low - base * slope)


def mask_bytes(mask: np.ndarray, affine: np.ndarray) -> bytes:
    """Return class indices as a gzip NIfTI of uint8.

    Args:
        mask: Class indices (i, j, k) from 0 to 255.
        affine: (4, 4), from voxel indices to millimetres, RAS+.
    """
    return _file(mask.astype(np.uint8), affine, 1.0, 0.0)


def perturbation_bytes(difference: np.ndarray, affine: np.ndarray, steps: int) -> bytes:
    """Return a perturbation as a gzip NIfTI of int8, whose header scales it to the unit of the image; 0 stays 0.

    Args:
        difference: The adversarial image minus the image (i, j, k).
        affine: (4, 4), from voxel indices to millimetres, RAS+.
        steps: Into how many steps the range from 0 to the largest difference is divided; at most 127.
    """
    largest = float(np.abs(difference).max()) if difference.size else 0.0
    slope = largest / steps or 1.0
    return _file(np.rint(difference / slope).astype(np.int8), affine, slope, 0.0)


_GREATEST = np.iinfo(np.int16).max


def _file(array: np.ndarray, affine: np.ndarray, slope: float, intercept: float) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_xyzt_units("mm")
    header.set_qform(affine, 1, strip_shears=True)
    header.set_sform(affine, 1)
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["magic"], header["vox_offset"] = b"n+1", 352
    # The four bytes say that no extension follows.
    content = header.binaryblock + bytes(4) + array.tobytes(order="F")
    return gzip.compress(content, compresslevel=6, mtime=0)
