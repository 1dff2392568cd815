"""One trained model, bound to a case: from a volume to the prepared image, and from logits back to the file's space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from voxward.core.case import Frame, Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.model import Box, Head, Inputs, Scores, Truth
from voxward.core.types import CaseLogits, Image, Images, Logits, Size3
from voxward.data.crop import crop_frozen, paste_frozen
from voxward.data.padding import crop_back, pad_amounts, pad_to
from voxward.data.prepare import frame_of, measured, measured_live, prepare_frozen, restore_logits
from voxward.pipeline.bound import Bound, background, resampled_truth
from voxward.pipeline.mean import Mean
from voxward.pipeline.predictor import Predictor
from voxward.pipeline.tta import View
from voxward.pipeline.windows import Windows
from voxward.runs.postprocess import PostProcess

Statistics = Literal["frozen", "live"]


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
class Member(Bound):
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

    @property
    def network(self) -> nn.Module:
        """Return the network of the trained model."""
        return self.predictor.model.network

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the names of the plan's channels."""
        return tuple(channel.name for channel in self.predictor.model.plan.channels)

    @property
    def labels(self) -> LabelSet:
        """Return the plan's classes or regions."""
        return self.predictor.model.plan.labels

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Return, per channel, the intensity range that the recipe clips to."""
        return tuple(zip(self.frame.low, self.frame.high, strict=True))

    @property
    def postprocess(self) -> PostProcess:
        """Return the run's post-processing."""
        return self.predictor.model.postprocess

    @property
    def cover(self) -> Windows:
        """Return the windows that the padded image is segmented in."""
        return self.windows

    @property
    def views(self) -> Sequence[View]:
        """Return the views of the predictor's test-time augmentation."""
        return self.predictor.views

    @property
    def mean_of_views(self) -> Mean:
        """Return what the predictor averages over the views."""
        return self.predictor.mean

    @property
    def batch(self) -> int:
        """Return the number of windows in one forward pass of the predictor."""
        return self.predictor.batch

    @property
    def graphs(self) -> int:
        """Return how many windows' graphs a gradient may hold at once."""
        return self.predictor.graphs

    def scores(self, images: Images) -> Logits:
        """Compute the logits of windows with the predictor, followed by autograd."""
        return self.predictor.scores(images)

    def forward(self, images: Images) -> Logits:
        """Compute the logits of windows with the predictor, without a gradient."""
        return self.predictor.forward(images)

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
            prepared = torch.stack([resampled_truth(region, self.frame.shape, 2) for region in labels])
        else:
            prepared = resampled_truth(labels, self.frame.shape, plan.labels.count)
        return pad_to(prepared, plan.window_size, plan.padding)[0]

    def whole(self, scores: Float[Tensor, "1 k *part"]) -> Float[Tensor, "1 k *volume"]:
        """Return the logits of the whole volume: background around the part that is segmented, if it is a part."""
        if self.part is None:
            return scores
        around = background(scores[0], self.labels.head)
        return self.part.paste(scores, around.view(1, -1, 1, 1, 1).expand(-1, -1, *self.part.shape))

    @property
    def _offset(self) -> Size3:
        return pad_amounts(self.frame.shape, self.predictor.model.plan.window_size)[0]
