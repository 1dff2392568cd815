"""The network of a bundle, bound to a case: what MONAI does to a volume, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.memory import lacks_memory
from voxward.core.model import Head, Inputs, Scores, Truth
from voxward.core.types import CaseLogits, Float3, Image, Images, Logits, Size3
from voxward.pipeline.bound import Bound
from voxward.pipeline.predictor import windows_per_pass
from voxward.pipeline.tta import View, mirror_views
from voxward.pipeline.windows import Windows
from voxward.systems.bundle.definition import Bundle
from voxward.systems.bundle.post import KeepLargest
from voxward.systems.bundle.steps import Preparation


@dataclass(frozen=True)
class Components:
    """Keeps the largest components of class maps; implements Treatment.

    Attributes:
        steps: What is kept, in order.
    """

    steps: tuple[KeepLargest, ...] = ()

    @property
    def idle(self) -> bool:
        """Return whether nothing is done."""
        return not self.steps

    def apply(self, label: np.ndarray, spacing: Float3) -> np.ndarray:
        """Return a treated copy of class indices (i, j, k); nothing depends on the voxel size."""
        found: np.ndarray = label[None].copy()
        for step in self.steps:
            step.keep(found)
        treated: np.ndarray = found[0]
        return treated


@dataclass(frozen=True, eq=False)
class BundleMember(Bound):
    """The network of a bundle, bound to a case.

    Attributes:
        bundle: The bundle.
        preparation: The preprocessing, bound to the clean volume.
        shape: The shape of the prepared image, before it is padded to a window.
        limits: The intensity range of each channel of the clean volume.
        kept: How many windows' graphs a gradient may hold at once.
    """

    bundle: Bundle
    preparation: Preparation
    shape: Size3
    limits: tuple[tuple[float, float], ...]
    kept: int = 0

    @property
    def network(self) -> nn.Module:
        """Return the network."""
        return self.bundle.network

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the names of the channels."""
        return self.bundle.channels

    @property
    def labels(self) -> LabelSet:
        """Return the classes or regions."""
        return self.bundle.labels

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Return the intensity range of each channel."""
        return self.limits

    @property
    def postprocess(self) -> Components:
        """Return what is done to the class map; of regions nothing is done here."""
        ending = self.bundle.definition.ending
        return Components(ending.components if ending.head == "softmax" else ())

    @property
    def cover(self) -> Windows:
        """Return the windows that the padded image is segmented in."""
        return self.bundle.definition.inferer.windows(self.shape)

    @property
    def views(self) -> Sequence[View]:
        """Return the window itself: MONAI averages no copies."""
        return mirror_views(())

    @property
    def batch(self) -> int:
        """Return the number of windows in one forward pass."""
        return windows_per_pass(self.cover.size, self._parameter.device)

    @property
    def graphs(self) -> int:
        """Return how many windows' graphs a gradient may hold at once."""
        return self.kept

    def scores(self, images: Images) -> Logits:
        """Compute the logits of windows, followed by autograd, in the order of the labels."""
        parameter = self._parameter
        forward = self.bundle.definition.inferer.forward(self.bundle.network)
        try:
            found = forward(images.to(parameter.device, parameter.dtype))
        except (RuntimeError, ValueError) as error:  # MONAI's networks check little by themselves
            if lacks_memory(error):
                raise
            raise UserError(f"the network cannot take windows of {tuple(images.shape[2:])} voxels: {error}") from error
        if not isinstance(found, Tensor):
            raise UserError(f"the network returns no scores, but {type(found).__name__}")
        if found.shape[2:] != images.shape[2:]:
            given, back = (tuple(x.shape[2:]) for x in (images, found))
            raise UserError(f"the network cannot take windows of {given} voxels: it returns scores of {back} voxels")
        return found[:, list(self.bundle.outputs)].to(images)

    def image(self, volume: Inputs) -> Image:
        """Prepare and pad a volume; gradients flow through it.

        Args:
            volume: One volume (1, c, i, j, k) in the file's voxels and intensities.

        Returns:
            The padded image (c, d, h, w).
        """
        return self.bundle.definition.inferer.padded(self.preparation.apply(volume[0]))

    def restored(self, blended: CaseLogits, head: Head) -> Scores:
        """Bring blended logits back to the voxels of the file, see `post.Ending.scores`.

        Args:
            blended: Logits (k, d, h, w) of the padded image.
            head: How logits are read, `softmax` or `regions`.

        Returns:
            Logits (1, k, i, j, k) of the volume.
        """
        inner = self.bundle.definition.inferer.unpadded(blended, self.shape)
        return self.bundle.definition.ending.scores(inner, self.preparation)[None]

    def target(self, target: Truth, head: Head) -> Tensor:
        """Bring the ground truth to the padded image.

        Args:
            target: The ground truth (1, i, j, k), or (1, k, i, j, k) for regions, in the voxels of the file.
            head: How logits are read, `softmax` or `regions`.

        Returns:
            The ground truth (d, h, w), or (k, d, h, w) for regions.
        """
        lead = target[0] if head == "regions" else target
        inferer = self.bundle.definition.inferer
        found = torch.nn.functional.pad(self.preparation.truth(lead), _flat(inferer.margins(self.shape)))
        return found if head == "regions" else found[0]

    @property
    def _parameter(self) -> Tensor:
        return next(self.bundle.network.parameters())


def _flat(pairs: Sequence[tuple[int, int]]) -> list[int]:
    return [amount for pair in reversed(pairs) for amount in pair]
