"""What an attack sees of a model, whether that is a network on a patch or a whole deployed pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

Head = Literal["softmax", "regions"]
"""`softmax`: classes exclude each other, the first is the background. `regions`: one sigmoid each, may overlap."""

Inputs = Float[Tensor, "b c *spatial"]
"""Intensities, before any normalisation that belongs to the model. Two or three spatial axes."""

Scores = Float[Tensor, "b k *spatial"]
"""Logits of k classes or k regions."""

Truth = Integer[Tensor, "b ..."]
"""Class indices (b, *spatial) for a softmax head; 0 or 1 per region (b, k, *spatial) for a region head."""

Values = Float[Tensor, " b"]

Objective = Callable[[Scores, Truth], Values]
"""What an attack maximises: one differentiable value per case, independent of the other cases in the batch."""

Box = tuple[slice, ...]
"""A part of the spatial axes."""


@dataclass(frozen=True, eq=False)
class Swept:
    """A volume with its logits; `memo` is the model's own, to update them after a local change."""

    volume: Inputs
    logits: Scores
    memo: Any = None


@runtime_checkable
class VolumeModel(Protocol):
    """A model over volumes. Cases of a batch never influence each other. Parameters are never changed."""

    @property
    def head(self) -> Head:
        """How the logits are read."""
        ...

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Logits, the objective's value per case, and its gradient with respect to the volume."""
        ...

    def logits(self, volume: Inputs) -> Scores:
        """Logits, without a gradient."""
        ...

    def sweep(self, volume: Inputs) -> Swept:
        """Logits, kept together with what `logits_after` needs."""
        ...

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """The same for `volume`, which differs from `before.volume` only inside `box`."""
        ...

    def segment(self, logits: Scores) -> Truth:
        """The final mask in the form of the target: argmax or threshold, then post-processing."""
        ...


class Wrapped:
    """x."""

    inner: VolumeModel

    @property
    def head(self) -> Head:
        """X."""
        return self.inner.head

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """X."""
        return self.inner.value_and_grad(volume, target, objective)

    def logits(self, volume: Inputs) -> Scores:
        """X."""
        return self.inner.logits(volume)

    def sweep(self, volume: Inputs) -> Swept:
        """X."""
        return self.inner.sweep(volume)

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """X."""
        return self.inner.logits_after(before, volume, box)

    def segment(self, logits: Scores) -> Truth:
        """X."""
        return self.inner.segment(logits)


@dataclass(frozen=True, eq=False)
class PatchModel:
    """A network on a patch: (b, c, *spatial) -> logits (b, k, *spatial), in evaluation mode while it is used.

    normalise: applied to the intensities first, part of what is differentiated; None feeds them as they are.
    Parameters, their .grad and the network's mode are left as found.
    """

    network: nn.Module
    head: Head = "softmax"
    normalise: Callable[[Tensor], Tensor] | None = None

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """See VolumeModel."""
        with frozen(self.network), torch.enable_grad():
            leaf = volume.detach().requires_grad_()
            logits = self._forward(leaf)
            values = objective(logits, target)
            # A network that cuts its input off has no gradient.
            reached = torch.autograd.grad(values.sum(), leaf, allow_unused=True) if values.requires_grad else (None,)
            gradient = torch.zeros_like(leaf) if reached[0] is None else reached[0]
        return logits.detach(), values.detach(), gradient

    def logits(self, volume: Inputs) -> Scores:
        """See VolumeModel."""
        with frozen(self.network), torch.no_grad():
            return self._forward(volume)

    def sweep(self, volume: Inputs) -> Swept:
        """See VolumeModel."""
        return Swept(volume, self.logits(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """See VolumeModel; a patch is always computed whole."""
        return self.sweep(volume)

    def segment(self, logits: Scores) -> Truth:
        """See VolumeModel."""
        return read_mask(logits, self.head)

    def _forward(self, volume: Tensor) -> Tensor:
        scores: Tensor = self.network(volume if self.normalise is None else self.normalise(volume))
        return scores


def read_mask(logits: Scores, head: Head) -> Truth:
    """Argmax over classes (b, *spatial), or the regions whose logit is above 0 (b, k, *spatial); int64."""
    # The same as argmax(1), the first of a tie included, which takes four to ten times as long on a processor.
    return logits.max(1).indices if head == "softmax" else (logits > 0).long()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and parameters without gradients, put back as they were afterwards."""
    modes = [(module, module.training) for module in network.modules() if module.training]
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for module, _ in modes:
        module.training = False
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in wanted:
            parameter.requires_grad_(True)
