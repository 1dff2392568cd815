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
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, Values, frozen, read_mask
from voxward.pipeline.mean import Mean, mean_logits
from voxward.pipeline.member import Member, State, Statistics, background
from voxward.pipeline.predictor import Predictor

Gradient = Literal["exact", "window_mean"]


@dataclass(frozen=True, eq=False)
class PipelineModel:
    """One or several trained models on one case (or a batch of volumes in its geometry): implements VolumeModel.

    Volumes (b, c, i, j, k) and logits (b, k, i, j, k) have the file's voxel order, volumes the file's intensities. The
    cases of a batch are worked on one after the other. spacing: of the file, in mm. mean: what of the members is
    averaged. gradient: `exact`, or `window_mean`: in every voxel the mean of the gradients of the objectives of the
    single windows that hold it, windows without foreground left out (the ResDSN paper's I-FGSM); value and logits are
    the whole volume's in both cases. Where a recipe normalises a scan by its own statistics, a volume is normalised by
    those of the clean case, or by its own, which an attack then moves, too: see `freeze`. Outside the part that the
    members segment, where they do not segment all, the logits are those of background. weights: the members' shares in
    the mean, which sum to 1; None: all the same.

    Memory: that of the graph of one batch of windows (or of Predictor.graphs), and some images and logits of the whole
    volume per member.
    """

    members: tuple[Member, ...]
    spacing: tuple[float, float, float]
    head: Head = "softmax"
    mean: Mean = "logits"
    gradient: Gradient = "exact"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, kind in (("head", Head), ("mean", Mean), ("gradient", Gradient)):
            if getattr(self, name) not in get_args(kind):
                raise UserError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if not self.members:
            raise UserError("predictors must hold at least one, got none")
        for what in ("channels", "labels"):
            if len({_names(member, what) for member in self.members}) > 1:
                raise UserError(f"predictors must agree on their {what}, got {[_names(m, what) for m in self.members]}")

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
        weights: tuple[float, ...] | None = None,
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
            raise UserError(f"statistics must be one of {', '.join(get_args(Statistics))}, got {statistics!r}")
        if whole is None and inside is not None:
            raise UserError("inside needs a whole")
        if whole is not None and inside is None and statistics == "live":
            raise UserError("a part has no live statistics unless it is known where inside its whole it lies")
        members = tuple(Member.freeze(p, volume, whole, inside, statistics) for p in predictors)
        return cls(members, volume.spacing, head, mean, gradient, weights)

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

        def state(case: Tensor, member: Member) -> State:
            image = member.image(case)
            return State(image, member.blended(image))

        with self._networks_frozen(), torch.no_grad():
            return self._swept(volume, [[state(case, member) for member in self.members] for case in _cases(volume)])

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """See VolumeModel; `before` may hold one case for all of `volume`. The change is looked for, not in `box` only.

        Changes of the prepared image below a millionth (in its normalised unit) are left out.
        """
        if before.memo is None:
            return self.sweep(volume)
        if len(before.memo) not in (1, len(volume)):
            raise UserError(f"before must hold 1 case or as many as volume ({len(volume)}), got {len(before.memo)}")
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
        for member, image, share in zip(self.members, images, self._divisors(), strict=True):
            pulled = member.window_mean(image.detach(), member.target(target, self.head), objective) / share
            gradient += torch.autograd.grad(image, leaf, pulled)[0]
        return logits, values, gradient

    def _native(self, blended: Sequence[Tensor]) -> Scores:
        """The members' mean logits (1, k, i, j, k) in the file's geometry."""
        restored = [member.restored(own, self.head) for member, own in zip(self.members, blended, strict=True)]
        scores, part = mean_logits(restored, self.head, self.mean, self.weights), self.members[0].part
        if part is None:
            return scores
        return part.paste(scores, background(scores[0], self.head).view(1, -1, 1, 1, 1).expand(-1, -1, *part.shape))

    def _divisors(self) -> Sequence[float]:
        """What each member's own gradient is divided by."""
        return [float(len(self.members))] * len(self.members) if self.weights is None else [1 / w for w in self.weights]

    def _swept(self, volume: Tensor, states: list[list[State]]) -> Swept:
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
