"""A cascade as a VolumeModel: what an attack on both stages sees.

The box that the coarse system sends the fine one to is not differentiable. So the box of the clean volume is held, as
crop boxes are. What an attack finds has to be checked again with the cascade itself, whose box may have moved.
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
    """The two pipelines of a cascade with a held box, as a `VolumeModel` of volumes (b, c, i, j, k).

    Logits (b, k, i, j, k) are those of the fine model inside the box and those of the coarse model outside (equation 5
    of Zhu et al., on logits instead of masks). It needs the memory of the two PipelineModels, one after the other, and
    the logits of both.

    Attributes:
        coarse: The model that finds the box; its logits count outside the box.
        fine: The model that segments the box; it takes whole volumes.
        box: The box of the clean volume, one slice per spatial axis.
        gradient: The gradient of both pipelines: `exact`, or `window_mean`, which adds the means of the two models,
            each over its own windows.
    """

    coarse: VolumeModel
    fine: VolumeModel
    box: Box
    gradient: Gradient = "exact"

    @property
    def head(self) -> Head:
        """Return how the logits of both pipelines are read, `softmax` or `regions`."""
        return self.fine.head

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Compute the logits, the objective and its gradient through both stages, one case after the other.

        Args:
            volume: Intensities (b, c, i, j, k).
            target: The ground truth: class indices (b, i, j, k), or regions (b, k, i, j, k) of 0 and 1.
            objective: The function of logits and ground truth that is differentiated.

        Returns:
            The logits (b, k, i, j, k), the objective's value per case (b), and the gradient (b, c, i, j, k) as
            `gradient` says.
        """
        case = self._exact if self.gradient == "exact" else self._window_mean
        found = [case(volume[n : n + 1], target[n : n + 1], objective) for n in range(len(volume))]
        logits, values, gradients = map(torch.cat, zip(*found, strict=True))
        return logits, values, gradients

    def logits(self, volume: Inputs) -> Scores:
        """Compute the joined logits (b, k, i, j, k) of volumes (b, c, i, j, k), without a gradient."""
        return self.sweep(volume).logits

    def sweep(self, volume: Inputs) -> Swept:
        """Compute the joined logits of volumes, and keep what `logits_after` needs of both models.

        Args:
            volume: Intensities (b, c, i, j, k).

        Returns:
            The volumes, the joined logits, and what `sweep` of each model returned.
        """
        return self._swept(volume, self.coarse.sweep(volume), self.fine.sweep(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Compute the joined logits of changed volumes; both models compute only the windows that the change touches.

        Args:
            before: The earlier volumes with their logits, from `sweep` or `logits_after`.
            volume: The changed volumes (b, c, i, j, k).
            box: Where they may differ: one slice per spatial axis.

        Returns:
            The changed volumes, their joined logits, and what the next call needs.
        """
        if before.memo is None:
            return self.sweep(volume)
        models = (self.coarse, self.fine)
        after = [model.logits_after(own, volume, box) for model, own in zip(models, before.memo, strict=True)]
        return self._swept(volume, *after)

    def segment(self, logits: Scores) -> Truth:
        """Turn logits into the final mask: that of the fine model in the box, background outside.

        The deployed cascade returns the same mask wherever its box is the held one, because everything that the coarse
        model found then lies in that box.

        Args:
            logits: Joined logits (b, k, i, j, k).

        Returns:
            Class indices (b, i, j, k), or regions (b, k, i, j, k) of 0 and 1.
        """
        part = self.fine.segment(logits[self._inside])
        mask = part.new_zeros((*part.shape[:-3], *logits.shape[2:]))
        mask[self._inside] = part
        return mask

    def _exact(self, volume: Tensor, target: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum of two gradients, each with the logits of the other model held."""
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
    """The attacked part of a cascade, together with the box of the clean volume.

    Attributes:
        inner: The model that is attacked.
        box: The box in the volume that the cascade was bound to; None where the coarse system found nothing.
        stage: The part of the cascade that is attacked.
    """

    inner: VolumeModel
    box: Box | None
    stage: Stage
