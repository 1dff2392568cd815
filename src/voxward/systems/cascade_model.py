"""A cascade as a VolumeModel: what an attack on both stages sees.

Where the coarse model sends the fine one is not differentiable. So the box is the clean case's and held, as are crop
boxes, and what an attack found has to be re-checked with the cascade itself, whose box may have moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, Values
from voxward.pipeline.member import Statistics
from voxward.pipeline.model import Gradient, PipelineModel
from voxward.systems.cascade import Cascade, crop
from voxward.systems.ensemble import Deployed

Stage = Literal["both", "coarse", "fine"]


@dataclass(frozen=True, eq=False)
class CascadeModel:
    """Two pipelines and the held box, which the fine one segments: implements VolumeModel for volumes (b, c, i, j, k).

    Logits (b, k, i, j, k) are the fine model's inside the box and the coarse one's outside (equation 5 of Zhu et al. on
    scores instead of masks). gradient: that of both pipelines, `exact` or `window_mean`: then the sum of both models'
    means, each over its own windows.

    Memory: that of the two PipelineModels, one after the other, and both their logits.
    """

    coarse: PipelineModel
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
        return self._swept(volume, self.coarse.sweep(volume), self.fine.sweep(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """See VolumeModel; of both models only the windows are computed that the change touches."""
        if before.memo is None:
            return self.sweep(volume)
        models = (self.coarse, self.fine)
        after = [model.logits_after(own, volume, box) for model, own in zip(models, before.memo, strict=True)]
        return self._swept(volume, *after)

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
        inside = self.fine.logits(volume)[self._inside].clone()  # a view would keep the whole
        outside, _, total = self.coarse.value_and_grad(
            volume, target, lambda logits, truth: objective(self._joined(logits, inside), truth)
        )
        logits, values, gradient = replace(self.fine, around=outside).value_and_grad(volume, target, objective)
        return logits, values, total + gradient

    def _window_mean(self, volume: Tensor, target: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        inside, _, gradient = self.fine.value_and_grad(volume, target, objective)
        outside, _, total = self.coarse.value_and_grad(volume, target, objective)
        logits = self._joined(outside, inside[self._inside])
        return logits, objective(logits, target), total + gradient

    @property
    def _inside(self) -> tuple[Any, ...]:
        return (..., *self.box)

    def _swept(self, volume: Tensor, coarse: Swept, fine: Swept) -> Swept:
        return Swept(volume, self._joined(coarse.logits, fine.logits[self._inside]), (coarse, fine))

    def _joined(self, outside: Scores, inside: Float[Tensor, "b k d h w"]) -> Scores:
        whole = outside.clone()
        whole[self._inside] = inside
        return whole


def freeze_cascade(
    cascade: Cascade,
    volume: Volume,
    box: Box | None,
    stage: Stage = "both",
    gradient: Gradient = "exact",
    statistics: Statistics = "frozen",
) -> CascadeModel | PipelineModel:
    """What is attacked of a cascade on a clean case. box: what `cascade.segment` gave, None where it found nothing.

    stage: `coarse` is the coarse model on the whole volume, so that the fine one is misled; `fine` the fine model in
    the box, with background around it; `both` the two in one (see CascadeModel). Without a box it is the coarse model,
    whose result the cascade's then is. gradient, statistics: see PipelineModel; the fine model has the whole volume's.

    Raises ValueError for an unknown stage or gradient, for a cascade that looks for single classes, only localises or
    masks the volume, and as PipelineModel.freeze does.
    """
    for name, value, kind in (("stage", stage, Stage), ("gradient", gradient, Gradient)):
        if value not in get_args(kind):
            raise UserError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
    _check_attackable(cascade)

    def frozen(deployed: Deployed, inside: Box | None = None) -> PipelineModel:
        seen, whole = (volume, None) if inside is None else (crop(volume, inside), volume)
        head = deployed.model.plan.labels.head
        return PipelineModel.freeze(deployed.members, seen, head, deployed.mean, gradient, whole, inside, statistics)

    if box is None or stage == "coarse":
        return frozen(cascade.coarse)
    fine = frozen(cascade.fine, box)
    return fine if stage == "fine" else CascadeModel(frozen(cascade.coarse), fine, box, gradient)


def _check_attackable(cascade: Cascade) -> None:
    wrong = {
        "classes": (cascade.classes, ()),
        "localise_only": (cascade.localise_only, False),
        "mask_outside": (cascade.mask_outside, False),
    }
    found = [f"{name} must be {legal!r}, got {value!r}" for name, (value, legal) in wrong.items() if value != legal]
    if found:
        raise UserError(f"this cascade cannot be attacked: {'; '.join(found)}")
