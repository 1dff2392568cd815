"""The measurements of a dataset (Fingerprint) and the decisions that follow from them (Plan), both as readable JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from voxward.core.choices import AFFINE_TOLERANCE, Nan
from voxward.core.document import with_format, without_format
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.labels import LabelSet
from voxward.core.plan_checks import plan_problems
from voxward.core.reading import read_json
from voxward.core.structure import from_data, to_data
from voxward.core.types import Float3, Size3

T = TypeVar("T")

Padding = Literal["reflect", "edge", "zero"]


@dataclass(frozen=True)
class Intensities:
    """The intensities of all voxels of a channel, in the unit of the files.

    Args:
        least: The least intensity.
        greatest: The greatest intensity.
        values: All intensities, sorted, where there are at most 16 different ones; else none.
        air: The share of the voxels that lie around -1000, as air does in CT, in [0, 1].
    """

    least: float
    greatest: float
    values: tuple[float, ...] = ()
    air: float = 0.0


@dataclass(frozen=True)
class CaseFingerprint:
    """The measurements of one case, in RAS order.

    Args:
        id: The id of the case.
        shape: The number of voxels per axis, after cropping where the recipe crops.
        spacing: The voxel size in mm per axis.
        voxels: The number of voxels of each class, the background first.
        intensities: The intensities of each channel, before cropping.
    """

    id: str
    shape: Size3
    spacing: Float3
    voxels: tuple[int, ...]
    intensities: tuple[Intensities, ...] = ()


@dataclass(frozen=True)
class ChannelFingerprint:
    """The intensities of a channel over the foreground voxels of all cases together, in the unit of the files.

    Args:
        name: The name of the channel.
        low: The 0.5 percentile.
        high: The 99.5 percentile.
        mean: The mean of the values clipped to [low, high].
        std: The standard deviation of the values clipped to [low, high].
    """

    name: str
    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class Fingerprint:
    """The measurements of the training cases of a dataset.

    Args:
        dataset: The name of the dataset.
        labels: The classes of the dataset.
        cases: The measurements of each case.
        channels: The intensities of each channel.
        objects: For each foreground class, the sorted volumes in mm3 of its connected components over all cases.
        object_size: The median bounding box per axis of the smallest class, in voxels of the median spacing. The
            smallest class is the foreground class with the least median volume per case.
        object_volume: The median volume per case of the smallest class, in voxels of the median spacing.
    """

    dataset: str
    labels: LabelSet
    cases: tuple[CaseFingerprint, ...]
    channels: tuple[ChannelFingerprint, ...]
    objects: tuple[tuple[float, ...], ...]
    object_size: Float3
    object_volume: float


@dataclass(frozen=True)
class ChannelPlan:
    """How a channel is normalised.

    Attributes:
        name: The name of the channel.
        normalization: A name of data.normalization.NORMALIZATIONS, which also says which of the numbers are used.
        low: The lower end of the intensity range, in the unit of the files.
        high: The upper end of the intensity range, in the unit of the files.
        mean: What is subtracted, in the unit of the files.
        std: What the intensities are divided by, in the unit of the files.
    """

    name: str
    normalization: str
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Every decision about geometry, intensity and memory, taken once and read everywhere.

    Everything that has one value per axis is in RAS order.

    Args:
        dataset: The name of the dataset.
        labels: The classes or regions that the network learns.
        channels: How each channel is normalised.
        spacing: The voxel size in mm that volumes are resampled to.
        spline_order: The order of the spline that resamples images, per axis: 3 cubic, 1 linear, 0 nearest.
        crop_nonzero: True cuts off the margin of zeros around a volume.
        patch_size: The number of voxels per axis that the network is trained on.
        window_size: The number of voxels per axis that the network predicts at once.
        source_size: The number of voxels per axis that are read before augmentation, at least `patch_size`.
        strides: For each downsampling step of the network, one stride per axis.
        kernel_sizes: For each resolution level of the network, one kernel edge per axis.
        padding: How a volume that is smaller than a patch is extended, in training, inference and attack.
        batch_size: The number of patches in a batch.
        min_object_mm3: For each foreground class, the volume below which a predicted component is suspicious. It
            follows from the objects of the training cases.
        resample: False leaves every case its own voxels; `spacing` is then only the median of the training cases.
        label_resampling: How labels are resampled, a name of data.resample_labels.LABEL_RESAMPLING.
        nan: What is done about NaN in an image: `refuse`, or `zero`, which reads it as 0.
        affine_tolerance: How far the corners of two files of one case may lie apart, in the smallest voxel edge.
    """

    dataset: str
    labels: LabelSet
    channels: tuple[ChannelPlan, ...]
    spacing: Float3
    spline_order: Size3
    crop_nonzero: bool
    patch_size: Size3
    window_size: Size3
    source_size: Size3
    strides: tuple[Size3, ...]
    kernel_sizes: tuple[Size3, ...]
    padding: Padding
    batch_size: int
    min_object_mm3: tuple[float, ...]
    resample: bool = True
    label_resampling: str = "linear"
    nan: Nan = "refuse"
    affine_tolerance: float = AFFINE_TOLERANCE

    def problems(self) -> list[str]:
        """Return one sentence for each mistake, such as an edit by hand may make."""
        return list(plan_problems(self))

    @property
    def total_stride(self) -> Size3:
        """Return the product of the strides per axis. The size of every input of the network must be a multiple."""
        total = [1, 1, 1]
        for step in self.strides:
            total = [a * b for a, b in zip(total, step, strict=True)]
        return total[0], total[1], total[2]

    def save(self, path: Path) -> None:
        """Write the plan as JSON, which a person may edit.

        Args:
            path: The file, which is replaced if it exists.
        """
        write_json(path, with_format(to_data(self)))


def load_plan(path: Path) -> Plan:
    """Read a plan and check every entry.

    Args:
        path: The JSON file, of this or an older version of voxward.

    Raises:
        UserError: The file is no plan; all problems are listed.
        FileNotFoundError: There is no such file.
    """
    return load_json(Plan, path)


def load_json(cls: type[T], path: Path) -> T:
    """Read a dataclass from a JSON file.

    Args:
        cls: The dataclass.
        path: The file, of this or an older version of voxward.

    Returns:
        An instance of the dataclass.

    Raises:
        UserError: The file does not describe the dataclass; all problems are listed.
        FileNotFoundError: There is no such file.
    """
    found = without_format(read_json(path), str(path))
    if found == {}:  # all that is missing would silently become the default
        raise UserError(f"{path} holds nothing: restore it from a copy, or let the command that wrote it do so again")
    return from_data(cls, found, str(path))
