"""Volumes, the cases and datasets made of them, and how a prepared array lies in its source file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.types import CaseLabels, Float3, Image, Size3, VoxelArray


@dataclass(frozen=True)
class Scaling:
    """How a file keeps intensities as integers of type `kind`: intensity = slope * integer + intercept."""

    kind: str
    slope: float
    intercept: float

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest intensity."""
        whole = np.iinfo(self.kind)
        low, high = sorted(self.slope * end + self.intercept for end in (whole.min, whole.max))
        return low, high

    @property
    def reversible(self) -> bool:
        """Whether the integers can be told from the intensities in float32."""
        return bool(np.spacing(np.float32(max(map(abs, self.limits)))) <= abs(self.slope) / 64)


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume as its file stores it.

    `array` is (c, i, j, k) for an image and (i, j, k) for a label, in the file's own voxel order and number type.
    `affine` (4, 4) maps voxel indices to millimetres, RAS+ (x to the right, y to the front, z to the head).
    `scaling` says how its file keeps an array of intensities that are integers there, where these can be told.
    """

    array: VoxelArray
    affine: np.ndarray
    scaling: Scaling | None = None

    @property
    def shape(self) -> Size3:
        """Spatial shape (i, j, k)."""
        i, j, k = self.array.shape[-3:]
        return i, j, k

    @property
    def spacing(self) -> Float3:
        """Voxel size in mm along i, j, k: the lengths of the affine's columns."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Case:
    """The files of one case: one multi-channel image or one file per channel, and its label where there is one."""

    id: str
    images: tuple[Path, ...]
    label: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """A folder of cases as its description declares it; nothing has been read yet.

    `cases` have labels; `unlabelled` are images without one (a test set). `splits_file` is the dataset's own list of
    folds where it ships one: JSON, a list of {"train": [ids], "val": [ids]}.
    """

    name: str
    root: Path
    channels: tuple[str, ...]
    labels: LabelSet
    cases: tuple[Case, ...]
    unlabelled: tuple[Case, ...] = ()
    splits_file: Path | None = None

    def case(self, id: str) -> Case:
        """The case of that id. Raises ValueError when there is none."""
        for case in (*self.cases, *self.unlabelled):
            if case.id == id:
                return case
        raise UserError(f"dataset {self.name!r} has no case {id!r}")


@dataclass(frozen=True)
class Frame:
    """How a prepared array lies in its source file, and the numbers that normalised it: all that the inverse needs.

    Steps in order: transpose by `axes` and flip by `flips` (to RAS order), crop `box_start`:`box_stop`, resample to
    `shape`, clip each channel to [low, high], subtract `mean`, divide by `std`. `low`, `high`, `mean`, `std` are in the
    source's intensity units, one per channel.
    """

    source_shape: Size3
    affine: tuple[tuple[float, float, float, float], ...]
    axes: Size3
    flips: tuple[bool, bool, bool]
    box_start: Size3
    box_stop: Size3
    shape: Size3
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def box_shape(self) -> Size3:
        """Shape of the crop box in oriented source voxels."""
        i, j, k = (stop - start for start, stop in zip(self.box_start, self.box_stop, strict=True))
        return i, j, k


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """What a network is fed: `image` (c, d, h, w) float32 normalised, `label` (d, h, w) class indices, the frame."""

    id: str
    image: Image
    label: CaseLabels | None
    frame: Frame

    def __post_init__(self) -> None:
        if self.image.dtype != torch.float32:
            raise UserError(f"a prepared image is float32, got {self.image.dtype}")
