"""One network that is bound to a case, whatever tool it comes from: what is the same for all is done here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.labels import UNANNOTATED, LabelSet
from voxward.core.model import Head, Inputs, Objective, Scores, Truth
from voxward.core.types import CaseLogits, Float3, Image, Images, Logits, Size3
from voxward.data.resample import resample_labels
from voxward.pipeline.mean import Mean
from voxward.pipeline.memory import fitting, known
from voxward.pipeline.tta import View, averaged, shares
from voxward.pipeline.windows import Forward, Windows, chunked, gather, pull_back, scatter_add, sweep, touched, update

# The logit of a class that is certain (the background outside the crop box); a region that is certainly absent has
# minus this logit.
CERTAIN = 20.0
# A change of the prepared image (in its normalised unit) that is too small to compute a window again for.
_UNCHANGED = 1e-6


def background(like: Tensor, head: Head) -> Float[Tensor, " k"]:
    """Return the logits of a voxel that is certainly background.

    Args:
        like: Logits (k, ...); the result has their number of classes, number type and device.
        head: How logits are read, `softmax` or `regions`.

    Returns:
        Logits (k,): for `softmax`, CERTAIN for the background and 0 for every other class; for `regions`, -CERTAIN for
        every region.
    """
    logits = like.new_full((len(like),), -CERTAIN if head == "regions" else 0.0)
    if head == "softmax":
        logits[0] = CERTAIN
    return logits


@runtime_checkable
class Treatment(Protocol):
    """What is done to a class map after the networks."""

    @property
    def idle(self) -> bool:
        """Return whether nothing is done."""
        ...

    def apply(self, label: np.ndarray, spacing: Float3) -> np.ndarray:
        """Return a treated copy of class indices (i, j, k) with a voxel size in mm."""
        ...


class Bound(ABC):
    """A network that is bound to a case.

    A subclass says how a volume becomes the image that the network sees in windows, and how logits come back to the
    file's voxels; both must be differentiable. The windows in between, their blending and its gradient are here. Images
    (c, d, h, w) and logits (k, d, h, w) are those of the padded grid that the windows lie in.
    """

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """Return the network, whose parameters are held while a gradient is computed."""

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """Return the names of the channels."""

    @property
    @abstractmethod
    def labels(self) -> LabelSet:
        """Return the classes or regions; logits stand in the order of their outputs."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Return, per channel, the intensity range (low, high) that is told apart, in the unit of the file."""

    @property
    @abstractmethod
    def postprocess(self) -> Treatment:
        """Return what is done to the class map."""

    @property
    @abstractmethod
    def cover(self) -> Windows:
        """Return the windows that the padded image is segmented in."""

    @property
    @abstractmethod
    def views(self) -> Sequence[View]:
        """Return the copies of a window whose logits are averaged; one for no test-time augmentation."""

    @property
    def mean_of_views(self) -> Mean:
        """Return what is averaged over the views, `logits` or `probabilities`."""
        return "logits"

    @property
    @abstractmethod
    def batch(self) -> int:
        """Return the number of windows in one forward pass, at least 1."""

    @property
    def graphs(self) -> int:
        """Return how many windows' graphs a gradient may hold at once."""
        return 0

    @abstractmethod
    def scores(self, images: Images) -> Logits:
        """Compute the logits (n, k, d, h, w) of windows (n, c, d, h, w), followed by autograd."""

    @torch.no_grad()
    def forward(self, images: Images) -> Logits:
        """Compute the same without a gradient, and refuse NaN or infinity."""
        logits = self.scores(images)
        if not bool(torch.isfinite(logits).all()):
            raise UserError("the network returns NaN or infinite logits")
        return logits

    @abstractmethod
    def image(self, volume: Inputs) -> Image:
        """Prepare and pad a volume; gradients flow through it.

        Args:
            volume: One volume (1, c, i, j, k) in the file's voxels and intensities.

        Returns:
            The padded image (c, d, h, w).
        """

    @abstractmethod
    def restored(self, blended: CaseLogits, head: Head) -> Scores:
        """Bring blended logits back to the voxels of the file.

        Args:
            blended: Logits (k, d, h, w) of the padded image.
            head: How logits are read, `softmax` or `regions`.

        Returns:
            Logits (1, k, i, j, k) of the volume.
        """

    @abstractmethod
    def target(self, target: Truth, head: Head) -> Tensor:
        """Bring the ground truth of a case to the padded image.

        Args:
            target: The ground truth (1, i, j, k), or (1, k, i, j, k) for regions, in the voxels of the file.
            head: How logits are read, `softmax` or `regions`.

        Returns:
            The ground truth (d, h, w), or (k, d, h, w) for regions.
        """

    def whole(self, scores: Float[Tensor, "1 k *part"]) -> Float[Tensor, "1 k *volume"]:
        """Return the logits of the whole volume, where only a part of it is segmented.

        Args:
            scores: Logits (1, k, ...) of the part.
        """
        return scores

    def blended(self, image: Image, graph: bool = False) -> CaseLogits:
        """Compute the logits of all windows of an image, blended.

        Args:
            image: The padded image (c, d, h, w).
            graph: Whether autograd follows the computation.

        Returns:
            Logits (k, d, h, w).
        """
        forward = self._averaged(self.scores if graph else fitting(self.forward))
        return torch.cat(list(sweep(forward, image, self.cover, self.batch)), self.cover.axis + 1)

    @property
    def graph_kept(self) -> bool:
        """Return whether the autograd graph of a whole sweep may be held in memory.

        It may where all windows, counted once for each view, fit into one batch, or are no more than `graphs`
        allows, and where the device had enough memory for it so far.
        """
        return not known.graphs and self.cover.count * len(self.views) <= max(self.batch, self.graphs)

    def pull_back(self, image: Image, cotangent: CaseLogits) -> Image:
        """Turn the gradient of the blended logits into that of the image, one batch of windows at a time.

        Args:
            image: The padded image (c, d, h, w).
            cotangent: The gradient with respect to the blended logits (k, d, h, w).

        Returns:
            The gradient with respect to the image (c, d, h, w).
        """
        return pull_back(fitting(self._pull, gradient=True), image, self.cover, cotangent, self.batch)

    def window_mean(self, image: Image, target: Tensor, objective: Objective) -> Image:
        """Return, for every voxel, the mean of the objective's gradients on the single windows that hold the voxel.

        Windows without foreground are left out. A voxel that lies only in such windows has the gradient 0.

        Args:
            image: The padded image (c, d, h, w).
            target: The prepared and padded ground truth (d, h, w), or (k, d, h, w) for regions.
            objective: The function of logits and ground truth that is differentiated.

        Returns:
            The mean gradient (c, d, h, w).
        """
        size = self.cover.size
        present = target > 0
        corners = touched(self.cover, present if present.ndim == 3 else present.any(0))
        forward, pull = self._averaged(fitting(self.forward)), fitting(self._pull, gradient=True)
        gradient, count = torch.zeros_like(image), torch.zeros_like(image[:1])
        for chunk in chunked(corners, self.batch):
            crops, truth = gather(image, chunk, size), gather(target, chunk, size)
            leaf = forward(crops).requires_grad_()
            (cotangent,) = torch.autograd.grad(objective(leaf, truth).sum(), leaf)
            scatter_add(gradient, chunk, pull(crops, cotangent))
            scatter_add(count, chunk, torch.ones_like(crops[:, :1]))
        return gradient / count.clamp_min(1)

    def after(self, before: State, image: Image) -> State:
        """Return the state of a changed image; only the windows that the change touches are computed again.

        Changes of a voxel up to a millionth (in the image's normalised unit) are left out.

        Args:
            before: The image before the change, with its logits.
            image: The changed image (c, d, h, w).

        Returns:
            The changed image without those small changes, and its blended logits. Where more than half of the windows
            are touched, all are computed, and the image is kept as it is.
        """
        changed: Bool[Tensor, "d h w"] = ((image - before.image).abs() > _UNCHANGED).any(0)
        corners = touched(self.cover, changed)
        if 2 * len(corners) > self.cover.count:
            return State(image, self.blended(image))
        # A voxel whose change was too small keeps its old value. So the logits are always those of the image that is
        # kept, and many small changes cannot add up unnoticed.
        image = torch.where(changed, image, before.image)
        forward = self._averaged(fitting(self.forward))
        images = (before.image, image)
        return State(image, update(forward, before.blended, images, self.cover, corners, self.batch))

    def _pull(self, crops: Images, cotangent: Logits) -> Images:
        """Return the gradient of the images for the mean over the views of their windows, one view at a time."""
        settings = self.labels.head, self.mean_of_views
        total = torch.zeros_like(crops)
        for view, share in zip(self.views, shares(self.forward, self.views, crops, cotangent, *settings), strict=True):
            leaf = crops.detach().requires_grad_()
            scores = view(self.scores)(leaf)
            if not scores.requires_grad:  # a network that cuts its input off has no gradient
                continue
            total += torch.autograd.grad(scores, leaf, share)[0]
        return total

    def _averaged(self, forward: Forward) -> Forward:
        return averaged(forward, self.views, self.labels.head, self.mean_of_views)


def resampled_truth(target: Tensor, shape: Size3, count: int) -> Tensor:
    """Resample a ground truth; "not annotated" votes like a class, as in `data.prepare`.

    Args:
        target: Class indices (d, h, w), or UNANNOTATED.
        shape: The new shape.
        count: The number of classes.
    """
    unknown = target == UNANNOTATED
    if not bool(unknown.any()):
        return resample_labels(target, shape, count)
    found = resample_labels(target.masked_fill(unknown, count), shape, count + 1)
    return found.masked_fill(found == count, UNANNOTATED)


@dataclass(frozen=True, eq=False)
class State:
    """The padded image of one case, and the blended logits of exactly that image.

    Attributes:
        image: The padded image (c, d, h, w).
        blended: Its blended logits (k, d, h, w).
    """

    image: Image
    blended: CaseLogits
