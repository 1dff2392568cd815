"""How the intensities of patches came about from those of their files, and what becomes of a changed patch.

A hardening step that changes a patch as a scanner or a noisy file would needs this. The deployed system prepares the
changed file: it normalises it by the file's own numbers again, or clips it to the plan's range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxward.core.case import Frame
from voxward.core.files import inside
from voxward.core.plan import Plan
from voxward.core.types import Float3, Images
from voxward.data.case_record import read_record
from voxward.data.normalization import normalization_of

# An intensity is that of air up to this share of the intensity range, which is more than the rounding of float32.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Origin:
    """How the intensities of a batch's patches came about.

    Attributes:
        zero: The intensity 0 of the files, in the unit of the patches (b, c), on the CPU.
        air: Which voxels are exactly 0 in the files of channels where these count as air (b, c, d, h, w). No
            perturbation changes them. None: no voxel.
        clipped: Which channels are clipped to the plan's intensity range.
        per_case: Which channels are normalised by numbers that are measured on each case.
        covered: The share (0 to 1) of the prepared case that a patch covers along each axis (b, 3).
        extent: The size (b, 3) of the volumes in their files, in mm along the axes of the patches.
        spacing: The voxel size of the patches in mm.
        channels: The names of the channels; empty where nobody knows them.
    """

    zero: Float[Tensor, "b c"]
    air: Bool[Tensor, "b c d h w"] | None
    clipped: tuple[bool, ...]
    per_case: tuple[bool, ...]
    covered: Float[Tensor, "b 3"]
    extent: Float[Tensor, "b 3"]
    spacing: Float3
    channels: tuple[str, ...] = ()

    def rows(self, index: Tensor) -> Origin:
        """Return the origin of some patches of the batch.

        Args:
            index: The numbers of the patches, on the CPU.
        """
        air = None if self.air is None else self.air[index.to(self.air.device)]
        return replace(self, zero=self.zero[index], air=air, covered=self.covered[index], extent=self.extent[index])

    def prepared(self, changed: Images, images: Images, ranges: Float[Tensor, "b c 2"]) -> Images:
        """Return what the preparation would make of changed patches.

        Air stays as it was. Where the plan clips, the patches are clipped to the intensity range. Where each case is
        normalised by its own numbers, the change has moved these, too: the patches are given the mean and the standard
        deviation that they had (without air). This is exact where a patch covers its case and the normalisation is one
        by mean and standard deviation.

        Args:
            changed: The changed patches (b, c, d, h, w).
            images: The patches before.
            ranges: The intensity range (b, c, 2) of each channel of each case.
        """
        x = changed
        if any(self.clipped):
            low, high, _ = legal_range(images, ranges)
            x = torch.where(_channels(self.clipped, images), torch.minimum(torch.maximum(x, low), high), x)
        if any(self.per_case):
            x = torch.where(_channels(self.per_case, images), self._normalised_again(x, images), x)
        return x if self.air is None else torch.where(self.air, images, x)

    def _normalised_again(self, x: Images, images: Images) -> Images:
        (mean, deviation), (was, before) = (self.moments(one) for one in (x, images))
        scaled = (x - mean) * (before / torch.where(deviation > 0, deviation, 1.0)) + was
        return torch.where((deviation > 0) & (before > 0), scaled, x)

    def moments(self, x: Images) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each channel of each patch without air, (b, c, 1, 1, 1).

        Args:
            x: The patches (b, c, d, h, w).
        """
        axes = (2, 3, 4)
        if self.air is None:
            variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
            return mean, variance.sqrt()
        body = (~self.air).to(x)
        count = body.sum(axes, keepdim=True).clamp_min(1)
        mean = (x * body).sum(axes, keepdim=True) / count
        return mean, (((x - mean) * body).square().sum(axes, keepdim=True) / count).sqrt()


def legal_range(images: Images, ranges: Float[Tensor, "b c 2"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return which intensities changed patches may have, and the width of the intensity range.

    Args:
        images: The patches (b, c, d, h, w).
        ranges: The intensity range (b, c, 2) of each channel of each case.

    Returns:
        The lowest and the highest intensity of case and patch, and the width of the case's range, each (b, c, 1, 1, 1).
    """
    low, high = (ranges[..., n].to(images)[..., None, None, None] for n in (0, 1))
    axes = (2, 3, 4)
    least, most = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return torch.minimum(low, least), torch.maximum(high, most), high - low


def _channels(chosen: Sequence[bool], like: Tensor) -> Tensor:
    return torch.tensor(chosen, device=like.device).view(1, -1, 1, 1, 1)


@dataclass(frozen=True, eq=False)
class Origins:
    """The origins of all patches of a training.

    Attributes:
        folder: The folder of the prepared cases.
        plan: The plan that they were prepared with.
    """

    folder: Path
    plan: Plan
    _read: dict[str, Frame] = field(default_factory=dict, init=False, repr=False)

    def air(self, images: Images, ids: Sequence[str]) -> Bool[Tensor, "b c d h w"] | None:
        """Return which voxels of patches that are not augmented yet are exactly 0 in their files and count as air.

        A voxel counts as well where its file has another intensity which is clipped to the same value.

        Args:
            images: The patches (b, c, d, h, w) as they were prepared.
            ids: The case of each patch.

        Returns:
            The mask (b, c, d, h, w), or None where no voxel is air.
        """
        kinds = [normalization_of(channel) for channel in self.plan.channels]
        levels, widths = [], []
        for frame in self._frames(ids):
            numbers = list(zip(frame.low, frame.high, frame.mean, frame.std, strict=True))
            found = [kind.zero(each) for kind, each in zip(kinds, numbers, strict=True)]
            levels.append([torch.nan if level is None else level for level in found])
            widths.append([(high - low) / std for low, high, _, std in numbers])
        level, width = (torch.tensor(each).to(images)[..., None, None, None] for each in (levels, widths))
        if bool(level.isnan().all()):
            return None
        found_air = (images - level).abs() <= _ROUNDING * width
        return found_air if bool(found_air.any()) else None

    def of(self, ids: Sequence[str], air: Bool[Tensor, "b c d h w"] | None) -> Origin:
        """Return the origin of a batch.

        Args:
            ids: The case of each patch.
            air: What `air` returned, moved as the patches were augmented.
        """
        frames, kinds = self._frames(ids), [normalization_of(channel) for channel in self.plan.channels]
        patch = torch.tensor(self.plan.patch_size, dtype=torch.float32)
        return Origin(
            zero=torch.tensor([[-m / s for m, s in zip(frame.mean, frame.std, strict=True)] for frame in frames]),
            air=air,
            clipped=tuple(kind.reads_plan for kind in kinds),
            per_case=tuple(kind.per_case for kind in kinds),
            covered=(patch / torch.tensor([frame.shape for frame in frames])).clamp_max(1.0),
            extent=torch.tensor([extent(frame) for frame in frames]),
            spacing=self.plan.spacing,
            channels=tuple(channel.name for channel in self.plan.channels),
        )

    def _frames(self, ids: Sequence[str]) -> list[Frame]:
        for id in ids:
            if id not in self._read:
                self._read[id] = read_record(inside(self.folder, id)).frame
        return [self._read[id] for id in ids]


def extent(frame: Frame) -> Float3:
    """Return the size of a volume in its file, in mm along the axes of the prepared case.

    Args:
        frame: How the prepared case lies in its file.
    """
    edges = np.linalg.norm(np.asarray(frame.affine)[:3, :3], axis=0) * np.asarray(frame.source_shape)
    i, j, k = (float(edges[axis]) for axis in frame.axes)
    return i, j, k
