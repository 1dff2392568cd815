"""The part of a recipe that says how volumes are prepared, and by whose rules the plan is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from voxward.core.choices import AFFINE_TOLERANCE, Nan
from voxward.core.plan import Padding
from voxward.core.recipe.checks import below, not_positive
from voxward.core.types import Size3


@dataclass(frozen=True)
class Preparation:
    """How volumes are prepared, and by whose rules the plan is made.

    Args:
        planner: The planner that chooses the size of the patch and the strides of the network.
        normalization: How intensities are normalised: a name of `data.normalization.NORMALIZATIONS` for all channels,
            a list with one name per channel, or {channel: name}, where a channel is named, or numbered from 0, and all
            others are `auto`. `auto` is what the channel's name says (`data.normalization.NAMED`: `ct` for CT, `none`
            for noNorm, ...), and `mr` for all other names.
        clip: The intensity range (low, high), in the unit of the files, of the normalisation `clip`.
        resample: True resamples all cases to the spacing of the plan; False leaves every case its own voxels.
        label_resampling: How labels are resampled. `linear` gives a voxel to the class with the largest share of it;
            `objects` does the same, but gives voxels to every object that would get lost, see `data.resample_labels`.
        allow_lost_labels: True prepares and trains although a class of a case has no voxel left; it is then a warning.
        crop_nonzero: True cuts off the margin of zeros around a volume. Labelled voxels in it are kept in training.
        padding: How a volume that is smaller than a patch is extended: `reflect`, `edge` or `zero`.
        memory_gib: The memory in GiB that a training step may take. The batch size follows from it.
        batch_size: The number of patches in a batch, or None for what the memory allows.
        patch_size: The size of the patch in voxels; only the planner `fixed` uses it.
        slice_size: The number of voxels per axis that a slice is resized to, or None for the median spacing; only the
            planner `slices` uses it.
        nan: What is done about NaN in an image: `refuse`, or `zero`, which reads it as 0, because some programs write
            NaN outside the field of view.
        affine_tolerance: How far the corners of two files of one case may lie apart, in the smallest voxel edge.
    """

    planner: str = "rog"
    normalization: str | Mapping[str | int, str] | tuple[str, ...] = "auto"
    clip: tuple[float, float] | None = None
    resample: bool = True
    label_resampling: str = "objects"
    allow_lost_labels: bool = False
    crop_nonzero: bool = True
    padding: Padding = "reflect"
    memory_gib: float = 10.0
    batch_size: int | None = None
    patch_size: Size3 = (128, 128, 128)
    slice_size: tuple[int, int] | None = None
    nan: Nan = "refuse"
    affine_tolerance: float = AFFINE_TOLERANCE

    def problems(self) -> list[str]:
        """Return one sentence for each value that is out of range."""
        found = not_positive(memory_gib=self.memory_gib) + below(1, batch_size=self.batch_size)
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            found.append(f"clip must be low < high, got {self.clip}")
        if min(self.patch_size) < 1:
            found.append(f"patch_size must be positive, got {self.patch_size}")
        if self.slice_size is not None and min(self.slice_size) < 8:
            found.append(f"slice_size must be at least 8 voxels per axis, got {self.slice_size}")
        if self.nan not in ("refuse", "zero"):
            found.append(f"nan must be refuse or zero, got {self.nan!r}")
        if not 0 <= self.affine_tolerance < math.inf:
            found.append(f"affine_tolerance must be a number of voxels from 0, got {self.affine_tolerance}")
        return found
