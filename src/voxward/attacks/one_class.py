"""One class against all others: what an attack sees of a model if it is to erase, or to invent, a single structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.labels import UNANNOTATED
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, Values, VolumeModel, Wrapped
from voxward.core.regions import RegionMaps


@dataclass(frozen=True, eq=False)
class OneClass(Wrapped):
    """One class of a model and everything else, as a model of two classes.

    For a softmax head the logits are the greatest of the other classes' logits, and the class's own one, so that their
    argmax agrees with the model's. For a region head they are the region's logit. So every objective and every Dice of
    an attack is that class's alone, and the attack has succeeded where the Dice is 0: not one true voxel is found any
    more. The ground truth is 0 and 1 (see `only`). Post-processing sees only this class.

    Attributes:
        inner: The model.
        index: The class, at least 1 (0 is the background), or the region, at least 0.
        regions: The regions of a model whose masks are written as one label per voxel and read back: a voxel then
            counts as found of this region if the label that is written for it lies in the region. None: the model's
            masks are its own.

    Raises:
        UserError: The index is below 1 for a softmax head, or below 0 for a region head.
    """

    inner: VolumeModel
    index: int
    regions: RegionMaps | None = None

    def __post_init__(self) -> None:
        least = 1 if self.inner.head == "softmax" else 0
        if self.index < least:
            raise UserError(f"index must be at least {least}, got {self.index}")

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Compute the objective of the class alone, with its gradient; see `VolumeModel.value_and_grad`."""
        logits, values, gradient = self.inner.value_and_grad(
            volume, target, lambda scores, truth: objective(self.narrowed(scores), truth)
        )
        return self.narrowed(logits), values, gradient

    def logits(self, volume: Inputs) -> Scores:
        """Return the class's own logits; see `narrowed`."""
        return self.narrowed(self.inner.logits(volume))

    def sweep(self, volume: Inputs) -> Swept:
        """Return the class's own logits; the memo is the model's own sweep. See `VolumeModel.sweep`."""
        return self._narrow(self.inner.sweep(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Update the class's own logits after a local change; see `VolumeModel.logits_after`."""
        if before.memo is None:
            return self.sweep(volume)
        return self._narrow(self.inner.logits_after(before.memo, volume, box))

    def segment(self, logits: Scores) -> Truth:
        """Return the mask of the class alone, after the model's post-processing; see `VolumeModel.segment`."""
        if self.head == "regions" and self.regions is None:
            return self.inner.segment(logits)
        if self.regions is not None:  # all other regions are empty
            count = len(self.regions.names)
            whole = torch.full_like(logits, -torch.inf).repeat(1, count, *(1,) * (logits.ndim - 2))
            whole[:, self.index] = logits[:, 0]
            return self.inner.segment(whole)[:, self.index : self.index + 1]
        # The post-processing must find as many classes as it knows; the classes between are put nowhere.
        nowhere = torch.full_like(logits[:, :1], -torch.inf).expand(-1, self.index - 1, *logits.shape[2:])
        mask = self.inner.segment(torch.cat([logits[:, :1], nowhere, logits[:, 1:]], 1))
        return (mask == self.index).to(mask)

    def narrowed(self, logits: Tensor) -> Tensor:
        """Reduce the model's logits to those of the class.

        Args:
            logits: The model's logits (b, k, *spatial).

        Returns:
            Two logits for a softmax head (b, 2, *spatial), one for a region (b, 1, *spatial).
        """
        own = logits[:, self.index : self.index + 1]
        if self.regions is not None:
            return _written(logits, self.regions.holders(self.index))
        if self.head == "regions":
            return own
        others = torch.cat([logits[:, : self.index], logits[:, self.index + 1 :]], 1)
        return torch.cat([others.amax(1, keepdim=True), own], 1)

    def _narrow(self, swept: Swept) -> Swept:
        return Swept(swept.volume, self.narrowed(swept.logits), swept)


@dataclass(frozen=True, eq=False)
class Elsewhere(Wrapped):
    """Everything but one class, as a model of two classes: what an attack must lower to invent the class.

    The roles of `OneClass` are swapped: what is found is "not the class", and with the ground truth of `elsewhere` it
    is true in every voxel that counts. So the Dice falls exactly as the class is found where it is not, and an attack
    on any objective grows that volume.

    Attributes:
        inner: One class and everything else.
    """

    inner: OneClass

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Compute the objective of all but the class, with its gradient; see `VolumeModel.value_and_grad`."""
        logits, values, gradient = self.inner.value_and_grad(
            volume, target, lambda scores, truth: objective(self.swapped(scores), truth)
        )
        return self.swapped(logits), values, gradient

    def logits(self, volume: Inputs) -> Scores:
        """Return the swapped logits; see `swapped`."""
        return self.swapped(self.inner.logits(volume))

    def sweep(self, volume: Inputs) -> Swept:
        """Return the swapped logits; the memo is the sweep of the class. See `VolumeModel.sweep`."""
        return self._swap(self.inner.sweep(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Update the swapped logits after a local change; see `VolumeModel.logits_after`."""
        if before.memo is None:
            return self.sweep(volume)
        return self._swap(self.inner.logits_after(before.memo, volume, box))

    def segment(self, logits: Scores) -> Truth:
        """Return 1 where the class is not found, after the model's post-processing; see `VolumeModel.segment`."""
        return 1 - self.inner.segment(self.swapped(logits))

    def swapped(self, logits: Tensor) -> Tensor:
        """Return logits with the roles of the class and of everything else swapped.

        Args:
            logits: Two logits of a softmax head (b, 2, *spatial), or one of a region (b, 1, *spatial).
        """
        return -logits if self.head == "regions" else logits.flip(1)

    def _swap(self, swept: Swept) -> Swept:
        return Swept(swept.volume, self.swapped(swept.logits), swept)


def _written(logits: Tensor, holds: Sequence[bool]) -> Tensor:
    """Return the logit of a region after precedence: above 0 where a label is written that lies in the region.

    That is where some region whose label lies in it is found, and no other region of higher precedence is.

    Args:
        logits: The logits of all regions in order of precedence (b, r, *spatial).
        holds: For each region, whether its label lies in the region that is asked for.
    """
    found, above = [], None
    for own, inside in zip(logits.chunk(logits.shape[1], 1), holds, strict=True):
        if inside:
            found.append(own if above is None else torch.minimum(own, -above))
        else:
            above = own if above is None else torch.maximum(above, own)
    return torch.cat(found, 1).amax(1, keepdim=True)


def only(target: Truth, index: int, head: Head) -> Truth:
    """Reduce the ground truth to one class, in the form that `OneClass` is attacked with.

    Args:
        target: The ground truth of all classes or regions.
        index: The class or region.
        head: How the model's logits are read.

    Returns:
        0 and 1, (b, *spatial) for a softmax head and (b, 1, *spatial) for a region; unannotated voxels stay so.
    """
    if head == "regions":
        return target[:, index : index + 1]
    return (target == index).to(target).masked_fill(target == UNANNOTATED, UNANNOTATED)


def elsewhere(truth: Truth) -> Truth:
    """Return the ground truth that `Elsewhere` is attacked with.

    Args:
        truth: The ground truth of the class alone, as `only` returns it.

    Returns:
        1 in every annotated voxel outside the class; the voxels of the class do not count, and are unannotated.
    """
    return torch.where(truth == 0, torch.ones_like(truth), torch.full_like(truth, UNANNOTATED))
