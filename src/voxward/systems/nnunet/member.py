"""One fold of an nnU-Net, bound to a case: what nnU-Net does to a volume, in 32 bits and with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from voxward.core.case import Volume
from voxward.core.labels import LabelSet
from voxward.core.model import Head, Inputs, Scores, Truth
from voxward.core.types import CaseLogits, Image, Images, Logits, Size3
from voxward.pipeline.bound import Bound, background, resampled_truth
from voxward.pipeline.predictor import windows_per_pass
from voxward.pipeline.tta import View, mirror_views
from voxward.pipeline.windows import Windows
from voxward.systems.nnunet import intensities
from voxward.systems.nnunet.after import LargestComponents
from voxward.systems.nnunet.geometry import Geometry
from voxward.systems.nnunet.halves import plan_of
from voxward.systems.nnunet.judge import forward_of, in_order, padded
from voxward.systems.nnunet.plans import NnPlan
from voxward.systems.nnunet.resampling import resampled

Place = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class NnMember(Bound):
    """The network of a fold, bound to a case.

    Logits stand in the order of the plan's labels. They are those of nnU-Net up to the rounding of its 16-bit sums.

    Attributes:
        fold: The network.
        plan: What the plan decides.
        geometry: How the clean volume lies.
        mirrors: The axes along which copies are averaged.
        figures: What normalises every volume; None normalises each volume by its own statistics, as nnU-Net does.
        limits: The intensity range of each channel of the clean volume.
        treatment: What is done to the class map.
        kept: How many windows' graphs a gradient may hold at once.
    """

    fold: nn.Module
    plan: NnPlan
    geometry: Geometry
    mirrors: tuple[int, ...]
    figures: tuple[intensities.Pair, ...] | None
    limits: tuple[tuple[float, float], ...]
    treatment: LargestComponents
    kept: int = 0

    @property
    def network(self) -> nn.Module:
        """Return the network of the fold."""
        return self.fold

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the names of the channels."""
        return self.plan.channels

    @property
    def labels(self) -> LabelSet:
        """Return the classes or regions."""
        return self.plan.labels

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Return the intensity range of each channel: of CT what the plan clips to, otherwise the scan's own."""
        return self.limits

    @property
    def postprocess(self) -> LargestComponents:
        """Return what is done to the class map."""
        return self.treatment

    @property
    def cover(self) -> Windows:
        """Return the windows that the padded image is segmented in."""
        shape = [max(length, edge) for length, edge in zip(self.geometry.grid, self.plan.window, strict=True)]
        return plan_of(_size3(shape), self.plan.window, self.plan.slicewise)

    @property
    def views(self) -> Sequence[View]:
        """Return the mirrored copies of a window."""
        return mirror_views(self.mirrors)

    @property
    def batch(self) -> int:
        """Return the number of windows in one forward pass."""
        return windows_per_pass(self.plan.window, self._parameter.device)

    @property
    def graphs(self) -> int:
        """Return how many windows' graphs a gradient may hold at once."""
        return self.kept

    def scores(self, images: Images) -> Logits:
        """Compute the logits of windows, followed by autograd."""
        parameter = self._parameter
        found = forward_of(self.fold, self.plan.slicewise)(images.to(parameter.device, parameter.dtype))
        return found[:, in_order(self.plan)].to(images)

    def image(self, volume: Inputs) -> Image:
        """Crop, normalise, resample and pad a volume; gradients flow through it.

        Args:
            volume: One volume (1, c, i, j, k) in the file's voxels and intensities.

        Returns:
            The padded image (c, d, h, w).
        """
        geometry, plan = self.geometry, self.plan
        box = geometry.cut(volume[0])
        inside = geometry.inside.to(box.device)
        figures = self.figures or intensities.measured(box, inside, plan.schemes, intensities.live_moments)
        image = intensities.normalised(box, inside, plan.schemes, figures)
        found = resampled(image, geometry.grid, geometry.spacing, geometry.target, plan.data)
        return padded(found, plan.window)[0]

    def restored(self, blended: CaseLogits, head: Head) -> Scores:
        """Bring blended logits back to the voxels of the file; outside the crop box they are those of background.

        Args:
            blended: Logits (k, d, h, w) of the padded image.
            head: How logits are read, `softmax` or `regions`.

        Returns:
            Logits (1, k, i, j, k) of the volume.
        """
        geometry = self.geometry
        inner = blended[(slice(None), *self._place)]
        box = resampled(inner, geometry.cropped, geometry.target, geometry.spacing, self.plan.logits)
        return geometry.paste(box, background(box, head))[None]

    def target(self, target: Truth, head: Head) -> Tensor:
        """Bring the ground truth to the padded image.

        Args:
            target: The ground truth (1, i, j, k), or (1, k, i, j, k) for regions, in the voxels of the file.
            head: How logits are read, `softmax` or `regions`.

        Returns:
            The ground truth (d, h, w), or (k, d, h, w) for regions.
        """
        box, grid = self.geometry.cut(target[0]), self.geometry.grid
        if head == "regions":
            found = torch.stack([resampled_truth(region, grid, 2) for region in box])
        else:
            found = resampled_truth(box, grid, self.plan.labels.count)
        lead = found if head == "regions" else found[None]
        whole = padded(lead, self.plan.window)[0]
        return whole if head == "regions" else whole[0]

    @property
    def _parameter(self) -> Tensor:
        return next(self.fold.parameters())

    @property
    def _place(self) -> Place:
        missing = [max(a - b, 0) // 2 for a, b in zip(self.plan.window, self.geometry.grid, strict=True)]
        d, h, w = (slice(low, low + length) for low, length in zip(missing, self.geometry.grid, strict=True))
        return d, h, w


def clean_figures(volume: Volume, geometry: Geometry, plan: NnPlan) -> tuple[intensities.Pair, ...]:
    """Return what nnU-Net normalises a clean volume with.

    Args:
        volume: The volume (c, i, j, k).
        geometry: How it lies.
        plan: The plan.
    """
    box = geometry.cut(torch.from_numpy(np.ascontiguousarray(volume.array, np.float32))).contiguous()
    return intensities.measured(box, geometry.inside, plan.schemes, intensities.moments_as_numpy)


def _size3(values: Sequence[int]) -> Size3:
    d, h, w = values
    return d, h, w
