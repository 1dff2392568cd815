"""NRRD and MetaImage files, through SimpleITK. ITK counts axes k, j, i and points to the patient's left and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.case import Volume
from voxward.core.errors import MissingPackageError, UserError
from voxward.core.files import atomic_write
from voxward.core.types import Size3
from voxward.data.itk_geometry import state_units, unit_fields, units_per_mm
from voxward.data.itk_header import voxels_of
from voxward.data.units import from_mm, in_mm
from voxward.data.volume_file import ITK_SUFFIXES, Header, naming_the_file, volume_suffix

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_header(path: Path) -> Header:
    """Read shape, channels and affine of a NRRD or MetaImage file, without its voxels.

    Raises:
        UserError: The file is truncated or corrupt; the message names it.
        ImportError: SimpleITK is not installed.
    """
    itk = _simpleitk(path)
    with naming_the_file(path):
        voxels_of(path)
        reader = _reader(itk, path)
        reader.ReadImageInformation()
        shape, listed = _layout(reader.GetSize())
        affine = in_mm(_affine(reader), units_per_mm(path))
        return Header(shape, listed * reader.GetNumberOfComponents(), affine, reader.GetDimension())


def read(path: Path) -> Volume:
    """Read every voxel of a NRRD or MetaImage file, as (c, i, j, k) in the stored number type.

    Raises:
        UserError: The file is truncated or corrupt; the message names it.
        ImportError: SimpleITK is not installed.
    """
    itk = _simpleitk(path)
    with naming_the_file(path):
        voxels_of(path).check_stream()
        per_mm = units_per_mm(path)
        image = _reader(itk, path).Execute()
        shape, listed = _layout(image.GetSize())
        components = image.GetNumberOfComponentsPerPixel()
        array = itk.GetArrayFromImage(image)
        if array.dtype.kind not in "iuf":
            raise UserError(f"voxels are {array.dtype}; legal: integers and real numbers")
        grid = array.reshape(listed, *shape[::-1], components).transpose(0, 4, 3, 2, 1)
        return Volume(grid.reshape(listed * components, *shape), in_mm(_affine(image), per_mm))


def write(path: Path, array: np.ndarray, affine: np.ndarray, template: Path | None = None) -> None:
    """Write a compressed NRRD or MetaImage file, in the template's unit of length. The file appears as a whole.

    Args:
        path: The file, which is replaced if it exists.
        array: (i, j), (i, j, k), or (i, j, k, c), which becomes a vector image.
        affine: (4, 4), from voxel indices to millimetres, RAS+.
        template: The image that `array` was made from; without one of this file type, the unit is mm.
    """
    itk = _simpleitk(path)
    units: dict[str, str] = {}
    if template is not None and _is_nrrd(template) == _is_nrrd(path) and volume_suffix(template) in ITK_SUFFIXES:
        with naming_the_file(template):
            units, affine = unit_fields(template), from_mm(affine, units_per_mm(template))
    axes = min(array.ndim, 3)
    turned = array.transpose(*range(axes)[::-1], *range(axes, array.ndim))
    image = itk.GetImageFromArray(np.ascontiguousarray(turned), isVector=array.ndim == 4)
    placed = _LPS_TO_RAS @ affine
    spacing = np.linalg.norm(placed[:3, :3], axis=0)[:axes]
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(placed[:axes, 3].tolist())
    image.SetDirection((placed[:axes, :axes] / spacing).ravel().tolist())
    with atomic_write(path) as unfinished:
        # The voxels of an .mhd would go to a second file, which no rename reaches: both stay in one, as in .mha.
        single = unfinished.with_suffix(".mha") if unfinished.suffix.lower() == ".mhd" else unfinished
        itk.WriteImage(image, str(single), useCompression=True)
        if units:
            state_units(single, units)
        single.rename(unfinished)


def _simpleitk(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise MissingPackageError(f"{path.name} needs SimpleITK: pip install voxward[sitk]") from error
    return SimpleITK


def _is_nrrd(path: Path) -> bool:
    return path.suffix.lower() == ".nrrd"


def _reader(itk: Any, path: Path) -> Any:
    """A reader of this type alone: ITK would else try whatever else the file might be."""
    reader = itk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if _is_nrrd(path) else "MetaImageIO")
    reader.SetFileName(str(path))
    return reader


def _layout(size: tuple[int, ...]) -> tuple[Size3, int]:
    """Spatial shape, and the length of a fourth axis, which lists channels."""
    if not 2 <= len(size) <= 4:
        raise UserError(f"size {size} is not (i, j), (i, j, k), or (i, j, k, channel)")
    i, j, k, listed = (*size, 1, 1)[:4]
    return (i, j, k), listed


def _affine(image: Any) -> np.ndarray:
    axes = image.GetDimension()
    space = min(axes, 3)
    direction = np.asarray(image.GetDirection()).reshape(axes, axes)[:space, :space]
    affine = np.eye(4)
    affine[:space, :space] = direction * np.asarray(image.GetSpacing())[:space]
    affine[:space, 3] = image.GetOrigin()[:space]
    placed: np.ndarray = _LPS_TO_RAS @ affine
    return placed
