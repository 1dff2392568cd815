"""A cascade as a VolumeModel: what an attack on both stages sees.

Where the coarse system sends the fine one is not differentiable. So the box is the clean volume's and held, as are crop
boxes, and what an attack found has to be re-checked with the cascade itself, whose box may have moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, Values, VolumeModel, Wrapped
from voxward.pipeline.model import Gradient

Stage = Literal["both", "coarse", "fine"]


@dataclass(frozen=True, eq=False)
class CascadeModel:
    """Two pipelines and the held box, which the fine one segments: implements VolumeModel for volumes (b, c, i, j, k).

    Logits (b, k, i, j, k) are the fine model's inside the box and the coarse one's outside (equation 5 of Zhu et al. on
    scores instead of masks). gradient: that of both pipelines, `exact` or `window_mean`: then the sum of both models'
    means, each over its own windows.

    Memory: that of the two PipelineModels, one after the other, and both their logits.
    """

    coarse: VolumeModel
    fine: VolumeModel
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
        logits, values, gradient = self.fine.value_and_grad(
            volume, target, lambda logits, truth: objective(self._joined(outside, logits[self._inside]), truth)
        )
        return self._joined(outside, logits[self._inside]), values, total + gradient

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


@dataclass(frozen=True, eq=False)
class HeldBox(Wrapped):
    """What is attacked of a cascade, together with the box of the clean volume.

    Attributes:
        inner: The model that is attacked.
        box: The box in the volume that the cascade was bound to; None where the coarse system found nothing.
        stage: The part of the cascade that is attacked.
    """

    inner: VolumeModel
    box: Box | None
    stage: Stage
