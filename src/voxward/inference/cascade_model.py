"""A cascade as a VolumeModel: what an attack on both stages sees.

Where the coarse model sends the fine one is not differentiable. So the box is the clean case's and held, as are crop
boxes and statistics, and what an attack found has to be re-checked with the cascade itself, whose box may have moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.case import Volume
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, Values
from voxward.inference.cascade import Cascade, crop
from voxward.inference.pipeline import CERTAIN, Gradient, PipelineModel
from voxward.inference.together import Deployed

Stage = Literal["both", "coarse", "fine"]

_InBox = Float[Tensor, "b k d h w"]


@dataclass(frozen=True, eq=False)
class CascadeModel:
    """Two frozen pipelines and the held box: implements VolumeModel for volumes (b, c, i, j, k) of one geometry.

    Logits (b, k, i, j, k) are the fine model's inside the box and the coarse one's outside (equation 5 of Zhu et al. on
    scores instead of masks); coarse None: there the background is certain. gradient: that of both pipelines, `exact` or
    `window_mean`: then the sum of both models' means, each over its own windows.

    Memory: that of the two PipelineModels, one after the other, and both their logits.
    """

    coarse: PipelineModel | None
    fine: PipelineModel
    box: Box
    gradient: Gradient = "exact"

    @property
    def head(self) -> Head:
        """That of both pipelines."""
        return self.fine.head

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """See VolumeModel."""
        case = self._exact if self.gradient == "exact" else self._window_mean
        found = [case(volume[n : n + 1], target[n : n + 1], objective) for n in range(len(volume))]
        logits, values, gradients = map(torch.cat, zip(*found, strict=True))
        return logits, values, gradients

    def logits(self, volume: Inputs) -> Scores:
        """See VolumeModel."""
        return self.sweep(volume).logits

    def sweep(self, volume: Inputs) -> Swept:
        """See VolumeModel."""
        coarse = None if self.coarse is None else self.coarse.sweep(volume)
        return self._swept(volume, coarse, self.fine.sweep(volume[self._inside]))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """See VolumeModel; of both models only the windows are computed that the change touches."""
        if before.memo is None:
            return self.sweep(volume)
        first, second = before.memo
        coarse = None if self.coarse is None else self.coarse.logits_after(first, volume, box)
        part = volume[self._inside]
        return self._swept(volume, coarse, self.fine.logits_after(second, part, _shifted(box, self.box)))

    def segment(self, logits: Scores) -> Truth:
        """See VolumeModel: the fine model's mask in the box, background outside.

        The cascade says the same wherever its box is the held one, for then all that the coarse model found lies in it.
        """
        part = self.fine.segment(logits[self._inside])
        mask = part.new_zeros((*part.shape[:-3], *logits.shape[2:]))
        mask[self._inside] = part
        return mask

    def _exact(self, volume: Tensor, target: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        """One model's logits are fixed while the other's gradient is computed: the total is the sum of the two."""
        part = volume[self._inside]
        if self.coarse is None:
            outside, total = self._background(volume), torch.zeros_like(volume)
        else:
            inside = self.fine.logits(part)
            outside, _, total = self.coarse.value_and_grad(
                volume, target, lambda logits, truth: objective(self._joined(logits, inside), truth)
            )
        fine, values, gradient = self.fine.value_and_grad(
            part, target, lambda logits, truth: objective(self._joined(outside, logits), truth)
        )
        total[self._inside] += gradient
        return self._joined(outside, fine), values, total

    def _window_mean(self, volume: Tensor, target: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        part, truth = volume[self._inside], target[self._inside]
        inside, _, gradient = self.fine.value_and_grad(part, truth, objective)
        outside, total = self._background(volume), torch.zeros_like(volume)
        if self.coarse is not None:
            outside, _, total = self.coarse.value_and_grad(volume, target, objective)
        total[self._inside] += gradient
        logits = self._joined(outside, inside)
        return logits, objective(logits, target), total

    @property
    def _inside(self) -> tuple[Any, ...]:
        return (..., *self.box)

    def _swept(self, volume: Tensor, coarse: Swept | None, fine: Swept) -> Swept:
        outside = self._background(volume) if coarse is None else coarse.logits
        return Swept(volume, self._joined(outside, fine.logits), (coarse, fine))

    def _joined(self, outside: Scores, inside: _InBox) -> Scores:
        whole = outside.clone()
        whole[self._inside] = inside
        return whole

    def _background(self, volume: Inputs) -> Scores:
        outputs = self.fine.members[0].predictor.model.plan.labels.outputs
        regions = self.head == "regions"
        logits = volume.new_full((len(volume), outputs, *volume.shape[2:]), -CERTAIN if regions else 0.0)
        if not regions:
            logits[:, 0] = CERTAIN
        return logits


def freeze_cascade(
    cascade: Cascade, volume: Volume, box: Box | None, stage: Stage = "both", gradient: Gradient = "exact"
) -> CascadeModel | PipelineModel:
    """What is attacked of a cascade on a clean case. box: what `cascade.segment` gave, None where it found nothing.

    stage: `coarse` is the coarse model on the whole volume, so that the fine one is misled; `fine` the fine model in
    the box, with background around it; `both` the two in one (see CascadeModel). Without a box it is the coarse model,
    whose result the cascade's then is.

    Raises ValueError for an unknown stage or gradient, for a cascade that looks for single classes, only localises or
    masks the volume, and as PipelineModel.freeze does.
    """
    for name, value, kind in (("stage", stage, Stage), ("gradient", gradient, Gradient)):
        if value not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
    _check_attackable(cascade)
    if box is None or stage == "coarse":
        return _frozen(cascade.coarse, volume, gradient)
    coarse = _frozen(cascade.coarse, volume, gradient) if stage == "both" else None
    return CascadeModel(coarse, _frozen(cascade.fine, crop(volume, box), gradient, volume), box, gradient)


def _frozen(deployed: Deployed, volume: Volume, gradient: Gradient, whole: Volume | None = None) -> PipelineModel:
    head = deployed.model.plan.labels.head
    return PipelineModel.freeze(deployed.members, volume, head, deployed.mean, gradient, whole)


def _check_attackable(cascade: Cascade) -> None:
    wrong = {
        "classes": (cascade.classes, ()),
        "localise_only": (cascade.localise_only, False),
        "mask_outside": (cascade.mask_outside, False),
    }
    found = [f"{name} must be {legal!r}, got {value!r}" for name, (value, legal) in wrong.items() if value != legal]
    if found:
        raise ValueError(f"this cascade cannot be attacked: {'; '.join(found)}")


def _shifted(box: Sequence[slice], by: Box) -> Box:
    """`box`, as far as it lies in the box `by`, counted from that one's corner."""
    return tuple(
        slice(max(side.start, own.start) - own.start, max(min(side.stop, own.stop), own.start) - own.start)
        for side, own in zip(box, by, strict=True)
    )
