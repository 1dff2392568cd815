"""What a dataset looks like (Fingerprint) and what will be done with it (Plan). Both are readable JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from voxward.core.document import with_format, without_format
from voxward.core.files import write_json
from voxward.core.labels import LabelSet
from voxward.core.reading import read_json
from voxward.core.structure import from_data, to_data
from voxward.core.types import Float3, Size3

T = TypeVar("T")

Padding = Literal["reflect", "edge", "zero"]


@dataclass(frozen=True)
class CaseFingerprint:
    """One case in RAS order: shape after cropping (where the recipe crops), spacing in mm, voxels per class."""

    id: str
    shape: Size3
    spacing: Float3
    voxels: tuple[int, ...]


@dataclass(frozen=True)
class ChannelFingerprint:
    """Intensities of a channel over the pooled foreground voxels of all cases, in the files' units.

    `low` and `high` are the 0.5 and 99.5 percentiles; `mean` and `std` are those of the values clipped to them.
    """

    name: str
    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class Fingerprint:
    """A dataset's training cases in numbers.

    `objects`: per foreground class, the volumes in mm3 of its connected components over all cases, sorted.
    `object_size`, `object_volume`: the smallest class, that is the foreground class with the least median volume per
    case; its median bounding box (voxels per axis, in voxels of the median spacing) and that median volume (voxels).
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
        name: The channel's name.
        normalization: A name of data.normalization.NORMALIZATIONS, which also says which of the numbers are used.
        low: Lower end of the intensity range, in the file's intensity unit.
        high: Upper end of that range.
        mean: What is subtracted, in the file's intensity unit.
        std: What intensities are divided by, in the file's intensity unit.
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

    spacing: target voxel size in mm, RAS order. spline_order: per axis, the order of the image's spline (3 cubic,
    1 linear, 0 nearest). patch_size: what the network trains on. window_size: what it predicts on. source_size: what
    is read before augmentation (>= patch_size). strides: per downsampling step of the network, one stride per axis;
    kernel_sizes: per resolution level, one kernel edge per axis. padding: how a volume smaller than a patch is
    extended, the same in training, inference and attack. min_object_mm3: per foreground class, the size under which a
    predicted component is suspicious (from the training set's own objects). resample: False keeps every case's own
    voxels; `spacing` is then only the training set's median.
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

    def problems(self) -> list[str]:
        """What an edit by hand got wrong, one sentence each."""
        found = []
        for name, size in (("patch_size", self.patch_size), ("window_size", self.window_size)):
            bad = [
                f"{length} is no multiple of {step}"
                for length, step in zip(size, self.total_stride, strict=True)
                if length < 1 or length % step
            ]
            found += (
                [f"{name} {size} must be a multiple of the total stride {self.total_stride}: {', '.join(bad)}"]
                if bad
                else []
            )
        if any(source < patch for source, patch in zip(self.source_size, self.patch_size, strict=True)):
            found.append(f"source_size {self.source_size} must not be smaller than patch_size {self.patch_size}")
        if any(not step > 0 for step in self.spacing):
            found.append(f"spacing must be positive, got {self.spacing}")
        if any(order not in range(4) for order in self.spline_order):
            found.append(f"spline_order must be 0, 1, 2 or 3 per axis, got {self.spline_order}")
        if self.batch_size < 1:
            found.append(f"batch_size must be at least 1, got {self.batch_size}")
        if len(self.min_object_mm3) != self.labels.count - 1:
            classes = self.labels.count - 1
            found.append(f"min_object_mm3 needs {classes} values, one per foreground class, got {self.min_object_mm3}")
        return found

    @property
    def total_stride(self) -> Size3:
        """Product of the strides per axis: every network input must be a multiple of it."""
        total = [1, 1, 1]
        for step in self.strides:
            total = [a * b for a, b in zip(total, step, strict=True)]
        return total[0], total[1], total[2]

    def save(self, path: Path) -> None:
        """Write as JSON that a person may edit."""
        write_json(path, with_format(to_data(self)))


def load_plan(path: Path) -> Plan:
    """Read a plan, checking every entry. Raises ValueError listing all problems."""
    return load_json(Plan, path)


def load_json(cls: type[T], path: Path) -> T:
    """Read a dataclass from a JSON file. Raises ValueError listing all problems, FileNotFoundError when absent."""
    return from_data(cls, without_format(read_json(path), str(path)), str(path))
