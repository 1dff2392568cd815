"""One trained model, bound to a case: from a volume to the prepared image, and from logits back to the file's space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from voxward.core.case import Frame, Volume
from voxward.core.errors import UserError
from voxward.core.labels import UNANNOTATED
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Truth
from voxward.core.types import CaseLogits, Image, Images, Logits, Size3
from voxward.data.crop import crop_frozen, paste_frozen
from voxward.data.padding import crop_back, pad_amounts, pad_to
from voxward.data.prepare import frame_of, measured, measured_live, prepare_frozen, restore_logits
from voxward.data.resample import resample_labels
from voxward.pipeline.predictor import Predictor
from voxward.pipeline.tta import averaged, shares
from voxward.pipeline.windows import Forward, Windows, chunked, gather, pull_back, scatter_add, sweep, touched, update

Statistics = Literal["frozen", "live"]

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


@dataclass(frozen=True)
class Part:
    """A box of a volume, where a model segments only that box.

    Attributes:
        box: The box in voxels of the whole volume, one slice per spatial axis.
        shape: The shape (i, j, k) of the whole volume.
    """

    box: Box
    shape: Size3

    def cut(self, x: Shaped[Tensor, "... i j k"]) -> Shaped[Tensor, "... i2 j2 k2"]:
        """Return the part of a whole volume's tensor, as a view.

        Args:
            x: A tensor (..., i, j, k) of the whole volume.

        Raises:
            UserError: The tensor has another shape, in which the box would be another place.
        """
        if tuple(x.shape[-3:]) != self.shape:
            raise UserError(f"a tensor must end with the whole's shape {self.shape}, got {tuple(x.shape)}")
        return x[self._place]

    def paste(self, part: Float[Tensor, "1 k i j l"], around: Scores) -> Scores:
        """Return the logits of the whole volume with those of the part put in; gradients flow through both.

        Args:
            part: Logits (1, k, ...) of the part, in the shape of the box.
            around: Logits (1, k, i, j, k) of the whole volume, which are not changed.

        Returns:
            New logits (1, k, i, j, k) of the whole volume.
        """
        whole = around.clone()
        whole[self._place] = part
        return whole

    @property
    def _place(self) -> tuple[Any, ...]:
        return (..., *self.box)


@dataclass(frozen=True, eq=False)
class Member:
    """One trained model that is bound to a case.

    Images (c, d, h, w) and logits (k, d, h, w) are those of the prepared and padded volume.

    Attributes:
        predictor: The trained model with the settings that it is deployed with.
        frame: How the prepared array lies in the file, or in the part of the file's volume where there is a `part`.
        windows: The windows that the padded image is segmented in.
        part: The part of the volume that is segmented; None for the whole volume.
        live: The frame of the voxels whose statistics normalise each volume. None: the statistics in `frame` normalise
            every volume.
    """

    predictor: Predictor
    frame: Frame
    windows: Windows
    part: Part | None = None
    live: Frame | None = None

    @classmethod
    def freeze(
        cls,
        predictor: Predictor,
        volume: Volume,
        whole: Volume | None = None,
        inside: Box | None = None,
        statistics: Statistics = "frozen",
    ) -> Member:
        """Bind a model to a clean volume, whose crop box holds from now on.

        Args:
            predictor: The trained model with its settings.
            volume: The clean volume (c, i, j, k), or a part of it.
            whole: The volume that `volume` is a part of, whose statistics normalise it; None if it is no part.
            inside: The box of `volume` in `whole`. The member then takes whole volumes, and segments the part.
            statistics: `frozen` normalises every volume by the statistics of the clean one; `live` normalises each
                volume by its own.

        Raises:
            UserError: The precision is fp16, in which gradients vanish, the mirror axes are wrong, or the volume does
                not fit the model.
        """
        if predictor.precision == "fp16":
            raise UserError("precision 'fp16' loses gradients; use fp32, bf16 or auto")
        predictor.check(volume.array.shape[0], volume.affine)
        _ = predictor.views  # refuses wrong axes
        plan = predictor.model.plan
        figures = None if whole is None else measured(whole, plan)
        frame = frame_of(volume, plan, figures=figures)
        live = None if statistics == "frozen" else frame if whole is None else frame_of(whole, plan, figures=figures)
        part = None if inside is None or whole is None else Part(inside, whole.shape)
        return cls(predictor, frame, predictor.windows(frame.shape), part, live)

    def image(self, volume: Inputs) -> Image:
        """Prepare and pad a volume; gradients flow through it.

        Args:
            volume: One volume (1, c, i, j, k) in the file's voxels and intensities.

        Returns:
            The padded image (c, d, h, w).
        """
        plan = self.predictor.model.plan
        part = volume if self.part is None else self.part.cut(volume)
        figures = None if self.live is None else measured_live(volume[0], self.live, plan)
        return pad_to(prepare_frozen(part, self.frame, plan, figures)[0], plan.window_size, plan.padding)[0]

    def blended(self, image: Image, graph: bool = False) -> CaseLogits:
        """Compute the logits of all windows of an image, blended.

        Args:
            image: The padded image (c, d, h, w).
            graph: Whether autograd follows the computation.

        Returns:
            Logits (k, d, h, w).
        """
        forward = self._averaged(self.predictor.scores if graph else self.predictor.forward)
        return torch.cat(list(sweep(forward, image, self.windows, self.predictor.batch)), self.windows.axis + 1)

    @property
    def graph_kept(self) -> bool:
        """Return whether the autograd graph of a whole sweep may be held in memory.

        It may where all windows, counted once for each view, fit into one batch, or are no more than `Predictor.graphs`
        allows.
        """
        return self.windows.count * len(self.predictor.views) <= max(self.predictor.batch, self.predictor.graphs)

    def restored(self, blended: CaseLogits, head: Head) -> Scores:
        """Bring blended logits back to the voxels of the file.

        Args:
            blended: Logits (k, d, h, w) of the padded image.
            head: How logits are read, `softmax` or `regions`.

        Returns:
            Logits (1, k, i, j, k) of the volume, or of the part that is segmented. Outside the crop box they are those
            of background.
        """
        box = restore_logits(crop_back(blended, self._offset, self.frame.shape), self.frame)
        return paste_frozen(box, self.frame, background(box, head))[None]

    def pull_back(self, image: Image, cotangent: CaseLogits) -> Image:
        """Turn the gradient of the blended logits into that of the image, one batch of windows at a time.

        Args:
            image: The padded image (c, d, h, w).
            cotangent: The gradient with respect to the blended logits (k, d, h, w).

        Returns:
            The gradient with respect to the image (c, d, h, w).
        """
        return pull_back(self._pull, image, self.windows, cotangent, self.predictor.batch)

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
        size = self.windows.size
        present = target > 0
        corners = touched(self.windows, present if present.ndim == 3 else present.any(0))
        forward = self._averaged(self.predictor.forward)
        gradient, count = torch.zeros_like(image), torch.zeros_like(image[:1])
        for chunk in chunked(corners, self.predictor.batch):
            crops, truth = gather(image, chunk, size), gather(target, chunk, size)
            leaf = forward(crops).requires_grad_()
            (cotangent,) = torch.autograd.grad(objective(leaf, truth).sum(), leaf)
            scatter_add(gradient, chunk, self._pull(crops, cotangent))
            scatter_add(count, chunk, torch.ones_like(crops[:, :1]))
        return gradient / count.clamp_min(1)

    def target(self, target: Truth, head: Head) -> Tensor:
        """Prepare and pad the ground truth of a case.

        Args:
            target: The ground truth (1, i, j, k), or (1, k, i, j, k) for regions, in the voxels of the file.
            head: How logits are read, `softmax` or `regions`.

        Returns:
            The ground truth (d, h, w), or (k, d, h, w) for regions, in the voxels of the padded image.
        """
        part = target if self.part is None else self.part.cut(target)
        plan, labels = self.predictor.model.plan, crop_frozen(part[0], self.frame)
        if head == "regions":
            prepared = torch.stack([_resampled(region, self.frame.shape, 2) for region in labels])
        else:
            prepared = _resampled(labels, self.frame.shape, plan.labels.count)
        return pad_to(prepared, plan.window_size, plan.padding)[0]

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
        corners = touched(self.windows, changed)
        if 2 * len(corners) > self.windows.count:
            return State(image, self.blended(image))
        # A voxel whose change was too small keeps its old value. So the logits are always those of the image that is
        # kept, and many small changes cannot add up unnoticed.
        image = torch.where(changed, image, before.image)
        forward = self._averaged(self.predictor.forward)
        images = (before.image, image)
        return State(image, update(forward, before.blended, images, self.windows, corners, self.predictor.batch))

    def _pull(self, crops: Images, cotangent: Logits) -> Images:
        """Return the gradient of the images for the mean over the views of their windows, one view at a time."""
        predictor = self.predictor
        settings = predictor.model.plan.labels.head, predictor.mean
        total = torch.zeros_like(crops)
        for view, share in zip(
            predictor.views, shares(predictor.forward, predictor.views, crops, cotangent, *settings), strict=True
        ):
            leaf = crops.detach().requires_grad_()
            scores = view(predictor.scores)(leaf)
            if not scores.requires_grad:  # a network that cuts its input off has no gradient
                continue
            total += torch.autograd.grad(scores, leaf, share)[0]
        return total

    def _averaged(self, forward: Forward) -> Forward:
        return averaged(forward, self.predictor.views, self.predictor.model.plan.labels.head, self.predictor.mean)

    @property
    def _offset(self) -> Size3:
        return pad_amounts(self.frame.shape, self.predictor.model.plan.window_size)[0]


def _resampled(target: Tensor, shape: Size3, count: int) -> Tensor:
    """Resample a ground truth; "not annotated" votes like a class, as in `data.prepare`."""
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
