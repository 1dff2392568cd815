"""Volumes, the cases and datasets that they make up, and how a prepared array lies in its source file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from voxward.core.choices import AFFINE_TOLERANCE, refuse_tolerance
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.names import composed
from voxward.core.spacing import spacing_of
from voxward.core.types import CaseLabels, Float3, Image, Size3, VoxelArray


@dataclass(frozen=True)
class Scaling:
    """How a file stores intensities as integers: intensity = slope * integer + intercept.

    Attributes:
        kind: The integers' number type, as NumPy names it, such as `int16`.
        slope: Intensity per integer step.
        intercept: The intensity of the integer 0.
    """

    kind: str
    slope: float
    intercept: float

    @property
    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest intensity that the file can store."""
        whole = np.iinfo(self.kind)
        low, high = sorted(self.slope * end + self.intercept for end in (whole.min, whole.max))
        return low, high

    @property
    def reversible(self) -> bool:
        """Return whether the integers can be recovered from intensities in float32."""
        return bool(np.spacing(np.float32(max(map(abs, self.limits)))) <= abs(self.slope) / 64)


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume as its file stores it.

    Attributes:
        array: Voxels in the file's own order and number type: (c, i, j, k) for an image, (i, j, k) for a label.
        affine: (4, 4), from voxel indices to millimetres in RAS+ (x to the patient's right, y to the front, z to the
            head).
        scaling: How the file stores these intensities as integers. None if the file stores the array itself, or if the
            integers could not be recovered.

    Example:
        >>> volume = voxward.Volume(np.zeros((1, 64, 64, 32), np.int16), np.diag([0.8, 0.8, 3.0, 1.0]))
        >>> volume.shape, volume.spacing
        ((64, 64, 32), (0.8, 0.8, 3.0))
    """

    array: VoxelArray
    affine: np.ndarray
    scaling: Scaling | None = None

    @property
    def shape(self) -> Size3:
        """Return the number of voxels along the spatial axes (i, j, k)."""
        i, j, k = self.array.shape[-3:]
        return i, j, k

    @property
    def spacing(self) -> Float3:
        """Return the voxel size in mm along (i, j, k), see `core.spacing.spacing_of`."""
        return spacing_of(self.affine)


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        id: The case's name, which files that belong to it are named after.
        images: One file with all channels, or one file per channel.
        label: The file with the ground truth; None if there is none.
        order: For every channel that is read, its number in the files; None reads all channels as they are stored.
        channels: With an order, how many channels the files must have; None does not say.
        nan_as_zero: Whether NaN is read as 0, as some programs write it outside the field of view. Otherwise it is
            refused.
        affine_tolerance: How far the corners of the case's files, or of its prediction, may lie apart, in the smallest
            voxel edge.

    Raises:
        UserError: The tolerance is negative or no number.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    order: tuple[int, ...] | None = None
    channels: int | None = None
    nan_as_zero: bool = False
    affine_tolerance: float = AFFINE_TOLERANCE

    def __post_init__(self) -> None:
        refuse_tolerance(self.affine_tolerance)


@dataclass(frozen=True)
class Split:
    """The cases of a fold.

    Attributes:
        train: Ids of the training cases, sorted.
        validation: Ids of the validation cases, sorted; none where all cases are trained on.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Remark:
    """Something in a dataset's description that can be used, but deserves a look.

    Attributes:
        kind: A short name that groups remarks, such as `count`.
        message: What is remarkable, with the file and the values.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Dataset:
    """A folder of cases as its description declares it; no voxel has been read yet.

    Attributes:
        name: The dataset's name.
        root: The folder.
        channels: The names of the image channels.
        labels: The classes and regions.
        cases: The cases that have a label.
        unlabelled: The cases that have images only, such as a test set.
        splits_file: The dataset's own list of folds, if it ships one: JSON, a list of {"train": [ids], "val": [ids]}.
        test: The cases that have a label and are held out: no fold trains on them.
        unused: The cases that the description lists, but that neither train, validate nor test.
        folds: The folds that the description itself declares, each with its number. A `splits_file` replaces them.
        remarks: What in the description deserves a look.
    """

    name: str
    root: Path
    channels: tuple[str, ...]
    labels: LabelSet
    cases: tuple[Case, ...]
    unlabelled: tuple[Case, ...] = ()
    splits_file: Path | None = None
    test: tuple[Case, ...] = ()
    unused: tuple[Case, ...] = ()
    folds: tuple[tuple[int, Split], ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def every(self) -> tuple[Case, ...]:
        """Return all cases, with and without a label, those of the test set and those not used last."""
        return (*self.cases, *self.unlabelled, *self.test, *self.unused)

    def with_cases(self, changed: Callable[[Case], Case]) -> Dataset:
        """Return the same dataset with every case changed: with and without a label, of the test set, and not used.

        Args:
            changed: From a case to the changed case.
        """
        cases, unlabelled, test, unused = (
            tuple(map(changed, part)) for part in (self.cases, self.unlabelled, self.test, self.unused)
        )
        return replace(self, cases=cases, unlabelled=unlabelled, test=test, unused=unused)

    def case(self, id: str) -> Case:
        """Return the case with an id.

        Args:
            id: The id of a case with or without a label, of the test set too.

        Raises:
            UserError: The dataset has no such case.
        """
        for form in (str, composed):  # the plain comparison first: it is the quick one
            for case in self.every:
                if form(case.id) == form(id):
                    return case
        raise UserError(f"dataset {self.name!r} has no case {id!r}")


@dataclass(frozen=True)
class Frame:
    """How a prepared array lies in its source file, with all the numbers that the inverse of the preparation needs.

    The preparation's steps are, in this order: transpose by `axes` and flip by `flips` (to RAS order), crop
    `box_start`:`box_stop`, resample to `shape`, clip each channel to [low, high], subtract `mean`, divide by `std`.

    Attributes:
        source_shape: Shape (i, j, k) of the source file.
        affine: The source file's affine (4, 4), voxel indices to millimetres.
        axes: The source axis of each oriented axis.
        flips: Which oriented axes run against their source axis.
        box_start: First voxel of the crop box, in oriented source voxels.
        box_stop: The voxel after the last one of the crop box, in oriented source voxels.
        shape: Shape of the prepared array (d, h, w).
        low: Lower end of the intensity range that each channel is clipped to, in the source's intensity unit.
        high: Upper end of that range, one per channel.
        mean: What is subtracted from each channel, in the source's intensity unit.
        std: What each channel is divided by, in the source's intensity unit.
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
        """Return the shape of the crop box in oriented source voxels."""
        i, j, k = (stop - start for start, stop in zip(self.box_start, self.box_stop, strict=True))
        return i, j, k


@dataclass(frozen=True)
class ClassKept:
    """What the preparation of a case leaves of a foreground class.

    Attributes:
        index: The class's index.
        before: Its volume in the file, in mm3.
        after: Its volume in the prepared label, in mm3.
        objects: Its connected components (26 neighbours) in the file; None where nothing was resampled.
        left: How many of these have a voxel of the class left.
    """

    index: int
    before: float
    after: float
    objects: int | None = None
    left: int | None = None


@dataclass(frozen=True)
class LabelKept:
    """What the preparation of a case leaves of its label.

    Attributes:
        classes: The foreground classes that the file holds.
        outside: The labelled voxels outside the box of the non-zero voxels. They are kept in training, but a
            prediction, which has no label, sees background there.
    """

    classes: tuple[ClassKept, ...]
    outside: int = 0


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """The input of a network: a normalised image with its label and its place in the source file.

    Attributes:
        id: The case's id.
        image: Normalised intensities (c, d, h, w), float32.
        label: Class indices (d, h, w); None for a case without a label.
        frame: How the array lies in its source file.
        kept: What the preparation has left of the label; None without a label, or where it was not counted.

    Raises:
        UserError: The image is not float32.
    """

    id: str
    image: Image
    label: CaseLabels | None
    frame: Frame
    kept: LabelKept | None = None

    def __post_init__(self) -> None:
        if self.image.dtype != torch.float32:
            raise UserError(f"a prepared image must be float32, got {self.image.dtype}")
