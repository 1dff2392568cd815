"""A whole deployed pipeline as a VolumeModel: volumes in the file's voxels, exact gradients, little memory.

The pipeline prepares a volume (the crop box is held; statistics are held or followed), pads it, segments it in windows
and their mirrored copies, blends these, brings the logits back to the file's voxels, and averages the members. Between
the preparation and that mean, everything except the networks is linear. So a sweep without a graph gives the blended
logits z of every member; autograd from z on gives the objective and its gradient with respect to z; and a second sweep
pulls that gradient back through one batch of windows at a time. The result is that of autograd, up to rounding.
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
from voxward.core.memory import lacks_memory
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, Values, frozen, read_mask
from voxward.pipeline.bound import Bound, State
from voxward.pipeline.mean import Mean, mean_logits
from voxward.pipeline.member import Member, Statistics
from voxward.pipeline.memory import without_graphs
from voxward.pipeline.predictor import Predictor

Gradient = Literal["exact", "window_mean"]


@dataclass(frozen=True, eq=False)
class PipelineModel:
    """The deployed pipeline of one or several trained models, bound to one case, as a `VolumeModel`.

    Volumes (b, c, i, j, k) and logits (b, k, i, j, k) have the file's voxel order, and volumes have the file's
    intensities. The cases of a batch all have the geometry of the clean case, and are computed one after the other.
    Where a recipe normalises a scan by its own statistics, a volume is normalised by the statistics of the clean case,
    or by its own, which an attack then changes as well (see `freeze`). Where the members segment only a part of the
    volume, the logits outside it are those of background.

    It needs the memory of the graph of one batch of windows (or of `Predictor.graphs` windows), and for each member
    that of a few images and logits of the whole volume.

    Attributes:
        members: The trained models, each bound to the case; at least one.
        spacing: The voxel size of the file in mm along (i, j, k).
        head: How logits are read, `softmax` or `regions`.
        mean: What is averaged over the members, `logits` or `probabilities`.
        gradient: `exact`, or `window_mean`: in every voxel the mean of the gradients of the objectives of the single
            windows that hold it, without the windows that have no foreground (I-FGSM of the ResDSN paper). The
            objective's value and the logits are those of the whole volume in both cases.
        weights: The share of each member in the mean; they sum to 1. None gives all members the same share.

    Raises:
        UserError: `head`, `mean` or `gradient` is unknown, there is no member, or the members differ in their channels
            or classes.

    Example:
        >>> predictor = voxward.Predictor(voxward.load_run("runs/liver"), torch.device("cpu"))
        >>> model = voxward.PipelineModel.freeze([predictor], volume)
        >>> threat = voxward.ThreatModel(eps=8 / 255, bounds=model.bounds)
        >>> attack = voxward.attacks.create("apgd-dice", steps=20)
        >>> result = attack(model, torch.from_numpy(volume.array)[None].float(), target, threat)
    """

    members: tuple[Bound, ...]
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

        Args:
            predictors: The trained models with their settings, at least one.
            volume: The clean volume (c, i, j, k) as its file stores it, or a part of it.
            head: How logits are read, `softmax` or `regions`.
            mean: What is averaged over the models, `logits` or `probabilities`.
            gradient: `exact` or `window_mean`, see the class.
            whole: The volume that `volume` is a part of, whose statistics then normalise it; None if it is no part.
            inside: The box of `volume` in `whole`. The model then takes and segments whole volumes, background around
                the part.
            statistics: What normalises a volume where a recipe takes the scan's own statistics: `frozen`, those of the
                clean case; `live`, those of each volume, as the deployed model takes them.
            weights: The share of each model in the mean; they sum to 1. None gives all the same share.

        Raises:
            UserError: There is no predictor, the volume does not fit them, they do not fit each other, the precision is
                fp16, in which gradients vanish, or a part has live statistics but no `inside`.
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
        """Return the number of channels of a volume."""
        return len(self.members[0].channels)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Return, per channel, the intensity range (low, high) that the first member clips to, in the unit of the file.

        The range is never empty: low < high also in float32.
        """
        return tuple(legal_range(*pair) for pair in self.members[0].bounds)

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Compute the logits, the objective and its gradient for whole volumes, one case after the other.

        Args:
            volume: Intensities (b, c, i, j, k).
            target: The ground truth: class indices (b, i, j, k), or regions (b, k, i, j, k) of 0 and 1.
            objective: The function of logits and ground truth that is differentiated.

        Returns:
            The logits (b, k, i, j, k), the objective's value per case (b), and the gradient (b, c, i, j, k) as
            `gradient` says.
        """
        case = self._exact if self.gradient == "exact" else self._window_mean
        with self._networks_frozen(), torch.enable_grad():
            cases = [case(*pair, objective) for pair in zip(_cases(volume), _cases(target), strict=True)]
        logits, values, gradients = map(torch.cat, zip(*cases, strict=True))
        return logits, values, gradients

    def logits(self, volume: Inputs) -> Scores:
        """Compute the logits (b, k, i, j, k) of whole volumes (b, c, i, j, k), without a gradient."""
        return self.sweep(volume).logits

    def sweep(self, volume: Inputs) -> Swept:
        """Compute the logits of whole volumes, and keep what `logits_after` needs to update them.

        Args:
            volume: Intensities (b, c, i, j, k).

        Returns:
            The volumes, their logits, and for every case and member the image with its blended logits.
        """

        def state(case: Tensor, member: Bound) -> State:
            image = member.image(case)
            return State(image, member.blended(image))

        with self._networks_frozen(), torch.no_grad():
            return self._swept(volume, [[state(case, member) for member in self.members] for case in _cases(volume)])

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Compute the logits of changed volumes; only the windows that the change touches are computed again.

        The change is looked for in the prepared image, and not in `box` only. Changes of the image up to a millionth
        (in its normalised unit) are left out.

        Args:
            before: The earlier volumes with their logits, from `sweep` or `logits_after`: one case for all, or one for
                each.
            volume: The changed volumes (b, c, i, j, k).
            box: Where they may differ: one slice per spatial axis.

        Returns:
            The changed volumes, their logits, and what the next call needs.

        Raises:
            UserError: `before` holds neither one case nor as many as `volume`.
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
        """Turn logits into the final mask: argmax or threshold, then the post-processing of the first member.

        Regions come back as files hold them: from one class for each voxel. A region head over labels without regions
        has no post-processing.

        Args:
            logits: Logits (b, k, i, j, k).

        Returns:
            Class indices (b, i, j, k), or regions (b, k, i, j, k) of 0 and 1.
        """
        labels = self.members[0].labels
        if self.head == "regions" and not labels.regions:
            return read_mask(logits, self.head)
        return labels.target(self.classes(logits))

    def classes(self, logits: Scores) -> Integer[Tensor, b * spatial]:
        """Turn logits into post-processed class indices.

        Args:
            logits: Logits (b, k, i, j, k).

        Returns:
            Class indices (b, i, j, k).
        """
        first = self.members[0]
        index = first.labels.read(logits)
        if first.postprocess.idle:
            return index
        done = [first.postprocess.apply(case.cpu().numpy(), self.spacing) for case in index]
        return torch.from_numpy(np.stack(done)).to(index)

    def _exact(self, volume: Tensor, target: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        # The graph of one member may be held until it is used: that of the last member.
        graphs = [member is self.members[-1] and member.graph_kept for member in self.members]
        try:
            return self._differentiated(volume, target, objective, graphs)
        except (RuntimeError, MemoryError) as error:
            if not (any(graphs) and lacks_memory(error)):
                raise
        without_graphs()
        return self._differentiated(volume.detach(), target, objective, [False] * len(graphs))

    def _differentiated(
        self, volume: Tensor, target: Tensor, objective: Objective, graphs: Sequence[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        leaf = volume.requires_grad_()
        images = [member.image(leaf) for member in self.members]
        swept = [
            member.blended(image if graph else image.detach(), graph)
            for member, image, graph in zip(self.members, images, graphs, strict=True)
        ]
        leaves = [blended.detach().requires_grad_() for blended in swept]
        logits = self._native(leaves)
        values = objective(logits, target)
        cotangents = torch.autograd.grad(values.sum(), leaves)
        gradient = torch.zeros_like(volume)
        while swept:  # from the last member, so that the held graph is freed before another one is made
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
        """Return the members' mean logits (1, k, i, j, k) in the file's voxels."""
        restored = [member.restored(own, self.head) for member, own in zip(self.members, blended, strict=True)]
        return self.members[0].whole(mean_logits(restored, self.head, self.mean, self.weights))

    def _divisors(self) -> Sequence[float]:
        """Return, for each member, the number that its own gradient is divided by."""
        return [float(len(self.members))] * len(self.members) if self.weights is None else [1 / w for w in self.weights]

    def _swept(self, volume: Tensor, states: list[list[State]]) -> Swept:
        logits = torch.cat([self._native([state.blended for state in case]) for case in states])
        return Swept(volume, logits, states)

    @contextmanager
    def _networks_frozen(self) -> Iterator[None]:
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(frozen(member.network))
            yield


def _cases(batch: Tensor) -> list[Tensor]:
    """Return each case as a batch of one, without autograd history."""
    return [batch[n : n + 1].detach() for n in range(len(batch))]


def _names(member: Bound, what: str) -> tuple[str, ...]:
    return member.labels.names if what == "labels" else member.channels


def legal_range(low: float, high: float) -> tuple[float, float]:
    """Widen an intensity range by about a millionth where float32 cannot tell its ends apart.

    Args:
        low: The lower end.
        high: The upper end, at least `low`.

    Returns:
        The range (low, high), with low < high in float32.
    """
    return (low, high) if np.float32(low) < np.float32(high) else (low, low + max(abs(low), 1.0) * 2.0**-20)
