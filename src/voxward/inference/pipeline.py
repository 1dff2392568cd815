"""The deployed system as a VolumeModel: whole volumes in the file's geometry, exact gradients, one batch of windows.

Prepare (crop box frozen; statistics frozen or followed), pad, windows, mirrors, blending, restore, mean of the members.
All between preparation and that mean but the networks is linear. So a sweep without a graph gives the blended logits z
of every member; autograd from z on gives the objective and its gradient with respect to z; and a second sweep pulls
that back through one batch of windows at a time. The result is autograd's, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from voxward.core.case import Frame, Volume
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, Values, frozen, read_mask
from voxward.core.types import CaseLogits, Image, Images, Logits, Size3
from voxward.data.padding import crop_back, pad_amounts, pad_to
from voxward.data.prepare import (
    crop_frozen,
    frame_of,
    measured,
    measured_live,
    paste_frozen,
    prepare_frozen,
    restore_logits,
)
from voxward.data.resample import resample_labels
from voxward.inference.ensemble import Mean, mean_logits
from voxward.inference.predictor import Predictor
from voxward.inference.tta import averaged, shares
from voxward.inference.windows import Forward, Windows, chunked, gather, pull_back, scatter_add, sweep, touched, update

Gradient = Literal["exact", "window_mean"]
Statistics = Literal["frozen", "live"]

# Logit of what is surely there (the background outside the crop box), minus that of what is surely not.
CERTAIN = 20.0
# A change of the prepared image (in standard deviations) that is too small to recompute a window for.
_UNCHANGED = 1e-6


@dataclass(frozen=True)
class Part:
    """The `box` of volumes of a `shape`, the only part of them that a model segments."""

    box: Box
    shape: Size3

    def cut(self, x: Shaped[Tensor, "... i j k"]) -> Shaped[Tensor, "... i2 j2 k2"]:
        """The part of a tensor. A view."""
        return x[self._place]

    def paste(self, part: Float[Tensor, "k i j l"], outside: Float[Tensor, " k"]) -> Float[Tensor, "k i2 j2 l2"]:
        """The whole, with `outside` elsewhere. Differentiable."""
        whole = outside.view(-1, 1, 1, 1).expand(-1, *self.shape).clone()
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
            raise ValueError("precision 'fp16' loses gradients; use fp32, bf16 or auto")
        predictor.check(volume.array.shape[0], volume.affine)
        _ = predictor.views  # refuses wrong axes
        plan = predictor.model.plan
        frame = frame_of(volume, plan, figures=None if whole is None else measured(whole, plan))
        live = None if statistics == "frozen" else frame if whole is None else frame_of(whole, plan)
        part = None if inside is None or whole is None else Part(inside, whole.shape)
        return cls(predictor, frame, predictor.windows(frame.shape), part, live)

    def image(self, volume: Inputs) -> Image:
        """The image of one volume (1, c, i, j, k), followed by autograd."""
        plan = self.predictor.model.plan
        figures = None if self.live is None else measured_live(volume[0], self.live, plan)
        part = volume if self.part is None else self.part.cut(volume)
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
        """Logits (1, k, i, j, k) in the file's geometry, outside part and crop box a constant that means background."""
        frame = self.frame
        box = restore_logits(crop_back(blended, self._offset, frame.shape), frame)
        outside = box.new_full((len(box),), -CERTAIN if head == "regions" else 0.0)
        if head == "softmax":
            outside[0] = CERTAIN
        scores = paste_frozen(box, frame, outside)
        return (scores if self.part is None else self.part.paste(scores, outside))[None]

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

    def after(self, before: _State, image: Image) -> _State:
        """The state of a changed image; the windows that the change does not touch are not computed again."""
        changed: Bool[Tensor, "d h w"] = ((image - before.image).abs() > _UNCHANGED).any(0)
        corners = touched(self.windows, changed)
        if 2 * len(corners) > self.windows.count:
            return _State(image, self.blended(image))
        # What was too small to matter stays as it was, so that the logits are always those of the image kept here
        # and many small changes cannot add up unseen.
        image = torch.where(changed, image, before.image)
        forward = self._averaged(self.predictor.forward)
        images = (before.image, image)
        return _State(image, update(forward, before.blended, images, self.windows, corners, self.predictor.batch))

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
class _State:
    """A member's padded image of one case, and the blended logits of exactly that image."""

    image: Image
    blended: CaseLogits


@dataclass(frozen=True, eq=False)
class PipelineModel:
    """One or several trained models on one case (or a batch of volumes in its geometry): implements VolumeModel.

    Volumes (b, c, i, j, k) and logits (b, k, i, j, k) have the file's voxel order, volumes the file's intensities. The
    cases of a batch are worked on one after the other. spacing: of the file, in mm. mean: what of the members is
    averaged. gradient: `exact`, or `window_mean`: in every voxel the mean of the gradients of the objectives of the
    single windows that hold it, windows without foreground left out (the ResDSN paper's I-FGSM); value and logits are
    the whole volume's in both cases. Where a recipe normalises a scan by its own statistics, a volume is normalised by
    those of the clean case, or by its own, which an attack then moves, too: see `freeze`.

    Memory: that of the graph of one batch of windows (or of Predictor.graphs), and some images and logits of the whole
    volume per member.
    """

    members: tuple[Member, ...]
    spacing: tuple[float, float, float]
    head: Head = "softmax"
    mean: Mean = "logits"
    gradient: Gradient = "exact"

    def __post_init__(self) -> None:
        for name, kind in (("head", Head), ("mean", Mean), ("gradient", Gradient)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if not self.members:
            raise ValueError("predictors must hold at least one, got none")
        for what in ("channels", "labels"):
            if len({_names(member, what) for member in self.members}) > 1:
                raise ValueError(
                    f"predictors must agree on their {what}, got {[_names(m, what) for m in self.members]}"
                )

    @classmethod
    def freeze(
        cls,
        predictors: Sequence[Predictor],
        volume: Volume,
        head: Head = "softmax",
        mean: Mean = "logits",
        gradient: Gradient = "exact",
        whole: Volume | None = None,
        inside: Box | None = None,
        statistics: Statistics = "frozen",
    ) -> PipelineModel:
        """Bind predictors to a clean case, whose crop box holds from now on.

        statistics: of recipes that normalise a scan by its own, `frozen` to the clean case's, or `live`: those of each
        volume, as the deployed model takes them. whole: the volume that this one is a part of, by whose statistics it
        is then normalised. inside: where in it; then the model takes and segments such wholes, background around the
        part.

        Raises ValueError for a volume that does not fit the predictors, predictors that do not fit each other, none of
        them, for precision fp16, in which gradients vanish, and for a part with live statistics whose place is unknown.
        """
        if statistics not in get_args(Statistics):
            raise ValueError(f"statistics must be one of {', '.join(get_args(Statistics))}, got {statistics!r}")
        if whole is None and inside is not None:
            raise ValueError("inside needs a whole")
        if whole is not None and inside is None and statistics == "live":
            raise ValueError("a part has no live statistics unless it is known where inside its whole it lies")
        members = tuple(Member.freeze(p, volume, whole, inside, statistics) for p in predictors)
        return cls(members, volume.spacing, head, mean, gradient)

    @property
    def channels(self) -> int:
        """How many channels a volume has."""
        return len(self.members[0].predictor.model.plan.channels)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Per channel the window (low, high) that the first member clips to, in the file's intensities, low < high."""
        frame = self.members[0].frame
        return tuple(legal_window(*pair) for pair in zip(frame.low, frame.high, strict=True))

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """See VolumeModel."""
        case = self._exact if self.gradient == "exact" else self._window_mean
        with self._networks_frozen(), torch.enable_grad():
            cases = [case(*pair, objective) for pair in zip(_cases(volume), _cases(target), strict=True)]
        logits, values, gradients = map(torch.cat, zip(*cases, strict=True))
        return logits, values, gradients

    def logits(self, volume: Inputs) -> Scores:
        """See VolumeModel."""
        return self.sweep(volume).logits

    def sweep(self, volume: Inputs) -> Swept:
        """See VolumeModel."""

        def state(case: Tensor, member: Member) -> _State:
            image = member.image(case)
            return _State(image, member.blended(image))

        with self._networks_frozen(), torch.no_grad():
            return self._swept(volume, [[state(case, member) for member in self.members] for case in _cases(volume)])

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """See VolumeModel; `before` may hold one case for all of `volume`. The change is looked for, not in `box` only.

        Changes of the prepared image below a millionth (in its normalised unit) are left out.
        """
        if before.memo is None:
            return self.sweep(volume)
        if len(before.memo) not in (1, len(volume)):
            raise ValueError(f"before must hold 1 case or as many as volume ({len(volume)}), got {len(before.memo)}")
        memo = before.memo * (len(volume) // len(before.memo))
        with self._networks_frozen(), torch.no_grad():
            states = [
                [m.after(old, m.image(case)) for m, old in zip(self.members, olds, strict=True)]
                for case, olds in zip(_cases(volume), memo, strict=True)
            ]
            return self._swept(volume, states)

    def segment(self, logits: Scores) -> Truth:
        """See VolumeModel; post-processing is the first member's. Nested regions come back nested, as files hold them.

        A region head over labels without regions has no post-processing.
        """
        labels = self.members[0].predictor.model.plan.labels
        if self.head == "regions" and not labels.regions:
            return read_mask(logits, self.head)
        return labels.target(self.classes(logits))

    def classes(self, logits: Scores) -> Integer[Tensor, b * spatial]:
        """Class indices (b, i, j, k), post-processed."""
        model = self.members[0].predictor.model
        index = model.plan.labels.read(logits)
        if model.postprocess.idle:
            return index
        done = [model.postprocess.apply(case.cpu().numpy(), self.spacing) for case in index]
        return torch.from_numpy(np.stack(done)).to(index)

    def _exact(self, volume: Tensor, target: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        leaf = volume.requires_grad_()
        images = [member.image(leaf) for member in self.members]
        # One such graph may wait: the last member's.
        graphs = [member is self.members[-1] and member.graph_kept for member in self.members]
        swept = [
            member.blended(image if graph else image.detach(), graph)
            for member, image, graph in zip(self.members, images, graphs, strict=True)
        ]
        leaves = [blended.detach().requires_grad_() for blended in swept]
        logits = self._native(leaves)
        values = objective(logits, target)
        cotangents = torch.autograd.grad(values.sum(), leaves)
        gradient = torch.zeros_like(volume)
        while swept:  # backwards, so that the waiting graph is gone before another is made
            member, image, blended = self.members[len(swept) - 1], images.pop(), swept.pop()
            cotangent = cotangents[len(swept)]
            if not blended.requires_grad:
                cotangent, blended = member.pull_back(image.detach(), cotangent), image
            gradient += torch.autograd.grad(blended, leaf, cotangent)[0]
        return logits.detach(), values.detach(), gradient

    def _window_mean(self, volume: Tensor, target: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        leaf = volume.requires_grad_()
        images = [member.image(leaf) for member in self.members]
        with torch.no_grad():
            logits = self._native([m.blended(image.detach()) for m, image in zip(self.members, images, strict=True)])
            values = objective(logits, target)
        gradient = torch.zeros_like(volume)
        for member, image in zip(self.members, images, strict=True):
            pulled = member.window_mean(image.detach(), member.target(target, self.head), objective)
            gradient += torch.autograd.grad(image, leaf, pulled / len(self.members))[0]
        return logits, values, gradient

    def _native(self, blended: Sequence[Tensor]) -> Scores:
        """The members' mean logits (1, k, i, j, k) in the file's geometry."""
        restored = [member.restored(own, self.head) for member, own in zip(self.members, blended, strict=True)]
        return mean_logits(restored, self.head, self.mean)

    def _swept(self, volume: Tensor, states: list[list[_State]]) -> Swept:
        logits = torch.cat([self._native([state.blended for state in case]) for case in states])
        return Swept(volume, logits, states)

    @contextmanager
    def _networks_frozen(self) -> Iterator[None]:
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(frozen(member.predictor.model.network))
            yield


def _cases(batch: Tensor) -> list[Tensor]:
    """Each case as a batch of one, without history."""
    return [batch[n : n + 1].detach() for n in range(len(batch))]


def _names(member: Member, what: str) -> tuple[str, ...]:
    plan = member.predictor.model.plan
    return plan.labels.names if what == "labels" else tuple(channel.name for channel in plan.channels)


def legal_window(low: float, high: float) -> tuple[float, float]:
    """An intensity window (low, high), widened by about a millionth where float32 cannot tell its ends apart."""
    return (low, high) if np.float32(low) < np.float32(high) else (low, low + max(abs(low), 1.0) * 2.0**-20)
