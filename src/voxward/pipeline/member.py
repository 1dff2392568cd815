"""One trained model of a pipeline, bound to a case: from a volume to its image and from scores back to the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from voxward.core.case import Frame, Volume
from voxward.core.errors import UserError
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

# Logit of what is surely there (the background outside the crop box), minus that of what is surely not.
CERTAIN = 20.0
# A change of the prepared image (in standard deviations) that is too small to recompute a window for.
_UNCHANGED = 1e-6


def background(like: Tensor, head: Head) -> Float[Tensor, " k"]:
    """Logits of a voxel that is surely background; like: (k, ...) of the same number type."""
    logits = like.new_full((len(like),), -CERTAIN if head == "regions" else 0.0)
    if head == "softmax":
        logits[0] = CERTAIN
    return logits


@dataclass(frozen=True)
class Part:
    """The `box` of volumes of a `shape`, the only part of them that a model segments."""

    box: Box
    shape: Size3

    def cut(self, x: Shaped[Tensor, "... i j k"]) -> Shaped[Tensor, "... i2 j2 k2"]:
        """The part of a tensor, a view. Raises ValueError for another shape, in which it would be another place."""
        if tuple(x.shape[-3:]) != self.shape:
            raise UserError(f"a tensor must end with the whole's shape {self.shape}, got {tuple(x.shape)}")
        return x[self._place]

    def paste(self, part: Float[Tensor, "1 k i j l"], around: Scores) -> Scores:
        """The whole: `around` with the part replaced. Differentiable."""
        whole = around.clone()
        whole[self._place] = part
        return whole

    @property
    def _place(self) -> tuple[Any, ...]:
        return (..., *self.box)


@dataclass(frozen=True, eq=False)
class Member:
    """One trained model, bound to a case by its frame. Images (c, d, h, w) and logits are prepared and padded.

    part: what of the volumes the frame is of; None: all. live: the frame of the voxels whose statistics every volume is
    normalised with; None: those that `frame` holds.
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
        """Keep the volume's crop box and, if frozen, its statistics; the other arguments as of PipelineModel.freeze.

        Raises ValueError for fp16 and for a volume that does not fit.
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
        """The image of one volume (1, c, i, j, k), followed by autograd."""
        plan = self.predictor.model.plan
        part = volume if self.part is None else self.part.cut(volume)
        figures = None if self.live is None else measured_live(volume[0], self.live, plan)
        return pad_to(prepare_frozen(part, self.frame, plan, figures)[0], plan.window_size, plan.padding)[0]

    def blended(self, image: Image, graph: bool = False) -> CaseLogits:
        """The blended logits; graph: followed by autograd, else without."""
        forward = self._averaged(self.predictor.scores if graph else self.predictor.forward)
        return torch.cat(list(sweep(forward, image, self.windows, self.predictor.batch)), self.windows.axis + 1)

    @property
    def graph_kept(self) -> bool:
        """Whether the graph of a whole sweep may be held: it is one batch's, or no more than what was allowed."""
        return self.windows.count * len(self.predictor.views) <= max(self.predictor.batch, self.predictor.graphs)

    def restored(self, blended: CaseLogits, head: Head) -> Scores:
        """Logits (1, k, i, j, k) of the part in the file's geometry, outside the crop box those of background."""
        box = restore_logits(crop_back(blended, self._offset, self.frame.shape), self.frame)
        return paste_frozen(box, self.frame, background(box, head))[None]

    def pull_back(self, image: Image, cotangent: CaseLogits) -> Image:
        """From a gradient for the blended logits to that for the image, a batch of windows at a time."""
        return pull_back(self._pull, image, self.windows, cotangent, self.predictor.batch)

    def window_mean(self, image: Image, target: Tensor, objective: Objective) -> Image:
        """In every voxel the mean of the objective's gradients on the single windows that hold it.

        Windows without foreground are left out, and voxels that lie in no other have the gradient 0.
        target: the prepared, padded truth (d, h, w), or (k, d, h, w) for regions.
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
        """The truth of one case (1, ...) in the file's geometry: prepared and padded, (d, h, w) or (k, d, h, w)."""
        part = target if self.part is None else self.part.cut(target)
        plan, labels = self.predictor.model.plan, crop_frozen(part[0], self.frame)
        if head == "regions":
            prepared = torch.stack([resample_labels(region, self.frame.shape, 2) for region in labels])
        else:
            prepared = resample_labels(labels, self.frame.shape, plan.labels.count)
        return pad_to(prepared, plan.window_size, plan.padding)[0]

    def after(self, before: State, image: Image) -> State:
        """The state of a changed image; the windows that the change does not touch are not computed again."""
        changed: Bool[Tensor, "d h w"] = ((image - before.image).abs() > _UNCHANGED).any(0)
        corners = touched(self.windows, changed)
        if 2 * len(corners) > self.windows.count:
            return State(image, self.blended(image))
        # What was too small to matter stays as it was, so that the logits are always those of the image kept here
        # and many small changes cannot add up unseen.
        image = torch.where(changed, image, before.image)
        forward = self._averaged(self.predictor.forward)
        images = (before.image, image)
        return State(image, update(forward, before.blended, images, self.windows, corners, self.predictor.batch))

    def _pull(self, crops: Images, cotangent: Logits) -> Images:
        """The pullback of the mean over the views of a window, one view at a time."""
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


@dataclass(frozen=True, eq=False)
class State:
    """A member's padded image of one case, and the blended logits of exactly that image."""

    image: Image
    blended: CaseLogits
