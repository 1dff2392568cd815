"""Models that answer differently each time: recognised, and averaged (expectation over transformation).

Athalye et al. 2018, arXiv 1802.00420: the gradient of one random answer is noise to an attack; the mean over several is
the gradient of what the model does on average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Box, Inputs, Objective, Scores, Swept, Truth, Values, VolumeModel, Wrapped

SAMPLES = 10
"""Answers that are averaged where a model turns out to be random."""

TOLERANCE = 1e-3
"""Relative to the greatest logit: below it two answers differ by rounding only, bfloat16 and other orders included."""


@dataclass(frozen=True, eq=False)
class Averaged(Wrapped):
    """A VolumeModel: the mean of `samples` evaluations of `model`, each of them drawn anew.

    Logits, the objective's value and its gradient are means; the value is that of the loss, not the loss of the mean.
    """

    inner: VolumeModel
    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"samples must be at least 1, got {self.samples}")

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """See VolumeModel."""
        logits, values, gradient = self.inner.value_and_grad(volume, target, objective)
        for _ in range(self.samples - 1):
            more = self.inner.value_and_grad(volume, target, objective)
            logits, values, gradient = logits + more[0], values + more[1], gradient + more[2]
        return logits / self.samples, values / self.samples, gradient / self.samples

    def logits(self, volume: Inputs) -> Scores:
        """See VolumeModel."""
        return self._mean(lambda: self.inner.logits(volume))

    def sweep(self, volume: Inputs) -> Swept:
        """See VolumeModel; the memo holds one sweep per sample."""
        return self._joined(volume, [self.inner.sweep(volume) for _ in range(self.samples)])

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """See VolumeModel: every sample is updated. Where nothing is redone, its earlier draw stands."""
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
    """Whether two answers to the same volume differ by more than rounding."""
    first, second = model.logits(volume), model.logits(volume)
    return bool((first - second).abs().max() > TOLERANCE * torch.maximum(first.abs().max(), second.abs().max()))
