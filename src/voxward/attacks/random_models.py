"""Models that answer differently each time: how they are recognised, and averaged (expectation over transformation).

Athalye et al. 2018, arXiv 1802.00420: the gradient of one random answer is noise to an attack. The mean over several
answers is the gradient of what the model does on average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Box, Inputs, Objective, Scores, Swept, Truth, Values, VolumeModel, Wrapped

SAMPLES = 10
"""How many answers are averaged if a model turns out to be random."""

TOLERANCE = 1e-3
"""Answers that differ by less than this share of the greatest logit differ by rounding only, bfloat16 included."""


@dataclass(frozen=True, eq=False)
class Averaged(Wrapped):
    """The mean of several evaluations of a random model, each with its own random draw.

    The logits, the objective's value and its gradient are means. The value is the mean of the objective, not the
    objective of the mean.

    Attributes:
        inner: The random model.
        samples: How many evaluations are averaged, at least 1.

    Raises:
        UserError: `samples` is below 1.
    """

    inner: VolumeModel
    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"samples must be at least 1, got {self.samples}")

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Return the mean logits, objective values and gradients; see `VolumeModel.value_and_grad`."""
        logits, values, gradient = self.inner.value_and_grad(volume, target, objective)
        for _ in range(self.samples - 1):
            more = self.inner.value_and_grad(volume, target, objective)
            logits, values, gradient = logits + more[0], values + more[1], gradient + more[2]
        return logits / self.samples, values / self.samples, gradient / self.samples

    def logits(self, volume: Inputs) -> Scores:
        """Return the mean of the logits; see `VolumeModel.logits`."""
        return self._mean(lambda: self.inner.logits(volume))

    def sweep(self, volume: Inputs) -> Swept:
        """Return the mean of the logits; the memo holds one sweep per sample. See `VolumeModel.sweep`."""
        return self._joined(volume, [self.inner.sweep(volume) for _ in range(self.samples)])

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Update every sample after a local change; what need not be computed keeps its earlier random draw.

        See `VolumeModel.logits_after`.
        """
        if before.memo is None:
            return self.sweep(volume)
        return self._joined(volume, [self.inner.logits_after(one, volume, box) for one in before.memo])

    def _joined(self, volume: Inputs, parts: Sequence[Swept]) -> Swept:
        answers = iter(parts)
        return Swept(volume, self._mean(lambda: next(answers).logits), tuple(parts))

    def _mean(self, draw: Callable[[], Tensor]) -> Tensor:
        total = draw()
        for _ in range(self.samples - 1):
            total = total + draw()
        return total / self.samples


def is_random(model: VolumeModel, volume: Inputs) -> bool:
    """Return whether two answers of a model to the same volume differ by more than rounding.

    Args:
        model: The model, which is evaluated twice.
        volume: Intensities (b, c, *spatial).
    """
    return differ(model.logits(volume), model.logits(volume))


def differ(first: Scores, second: Scores) -> bool:
    """Return whether two answers of a model to the same volume differ by more than rounding.

    Args:
        first: The first logits (b, k, *spatial).
        second: The second logits.
    """
    return bool((first - second).abs().max() > TOLERANCE * torch.maximum(first.abs().max(), second.abs().max()))
