"""One class against all others: what an attack sees of a model when it is to erase a single organ or lesion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, Values, VolumeModel, Wrapped


@dataclass(frozen=True, eq=False)
class OneClass(Wrapped):
    """A VolumeModel of two classes: class `index` of `model`, and whatever else there is.

    Of a softmax head the logits are the greatest of the other classes' and the class's own, so that their argmax is the
    model's; of a region head they are the region's. So every objective and every Dice of an attack is that class's
    alone, and the attack has succeeded where it is 0: not one true voxel is found any more. Targets are 0 and 1.
    Post-processing sees only this class.

    nested: how many regions the model's mask nests, innermost first: what is found of one inside counts as found of
    this one; 0 where they do not. Raises ValueError for an index below 1 (a softmax head's background) or 0 (regions).
    """

    inner: VolumeModel
    index: int
    nested: int = 0

    def __post_init__(self) -> None:
        least = 1 if self.inner.head == "softmax" else 0
        if self.index < least:
            raise UserError(f"index must be at least {least}, got {self.index}")

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """See VolumeModel."""
        logits, values, gradient = self.inner.value_and_grad(
            volume, target, lambda scores, truth: objective(self.narrowed(scores), truth)
        )
        return self.narrowed(logits), values, gradient

    def logits(self, volume: Inputs) -> Scores:
        """See VolumeModel."""
        return self.narrowed(self.inner.logits(volume))

    def sweep(self, volume: Inputs) -> Swept:
        """See VolumeModel; the memo is the model's own sweep."""
        return self._narrow(self.inner.sweep(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """See VolumeModel."""
        if before.memo is None:
            return self.sweep(volume)
        return self._narrow(self.inner.logits_after(before.memo, volume, box))

    def segment(self, logits: Scores) -> Truth:
        """See VolumeModel."""
        if self.head == "regions" and not self.nested:
            return self.inner.segment(logits)
        if self.head == "regions":  # all that is inside or around it is empty
            whole = torch.full_like(logits, -torch.inf).repeat(1, self.nested, *(1,) * (logits.ndim - 2))
            whole[:, self.index] = logits[:, 0]
            return self.inner.segment(whole)[:, self.index : self.index + 1]
        # As many classes as the model's post-processing must know of; those between are nowhere.
        nowhere = torch.full_like(logits[:, :1], -torch.inf).expand(-1, self.index - 1, *logits.shape[2:])
        mask = self.inner.segment(torch.cat([logits[:, :1], nowhere, logits[:, 1:]], 1))
        return (mask == self.index).to(mask)

    def narrowed(self, logits: Tensor) -> Tensor:
        """The two logits of a softmax head, or the one of a region."""
        own = logits[:, self.index : self.index + 1]
        if self.nested:
            return logits[:, : self.index + 1].amax(1, keepdim=True)
        if self.head == "regions":
            return own
        others = torch.cat([logits[:, : self.index], logits[:, self.index + 1 :]], 1)
        return torch.cat([others.amax(1, keepdim=True), own], 1)

    def _narrow(self, swept: Swept) -> Swept:
        return Swept(swept.volume, self.narrowed(swept.logits), swept)


def only(target: Truth, index: int, head: Head) -> Truth:
    """The truth of one class, in the form that `OneClass` is attacked with."""
    return target[:, index : index + 1] if head == "regions" else (target == index).to(target)
