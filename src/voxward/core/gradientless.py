"""Models that answer with scores and have no gradient, so that only attacks without a gradient can be used on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Never

from voxward.core.errors import UserError
from voxward.core.model import Box, Head, Inputs, Objective, Scores, Swept, Truth, VolumeModel, Wrapped, read_mask


class NotDifferentiable(UserError):  # noqa: N818 - it says what the system is
    """A system has no gradient with respect to the volume, so that only attacks without a gradient can be used.

    Attributes:
        masks: Whether it answers attacks with masks only, and not with scores.
    """

    def __init__(self, message: str, masks: bool = False) -> None:
        super().__init__(message)
        self.masks = masks


@dataclass(frozen=True, eq=False)
class Scored:
    """A function from volumes to logits, as a VolumeModel without a gradient.

    Attributes:
        head: How the logits are read, `softmax` or `regions`.
        scores: The logits (b, k, *spatial) of volumes (b, c, *spatial).
        why: Why there is no gradient, as one sentence.
    """

    head: Head
    scores: Callable[[Inputs], Scores]
    why: str

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> Never:
        """Refuse: there is no gradient.

        Raises:
            NotDifferentiable: Always.
        """
        raise NotDifferentiable(self.why)

    def logits(self, volume: Inputs) -> Scores:
        """Return the logits (b, k, *spatial) of a volume (b, c, *spatial)."""
        return self.scores(volume)

    def sweep(self, volume: Inputs) -> Swept:
        """Return the logits of a volume (b, c, *spatial); there is no memo."""
        return Swept(volume, self.scores(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Return the logits of the whole changed volume; `before` and `box` save no work here."""
        return self.sweep(volume)

    def segment(self, logits: Scores) -> Truth:
        """Return the argmax over the classes, or the regions whose logit is above 0; see `core.model.read_mask`."""
        return read_mask(logits, self.head)


@dataclass(frozen=True, eq=False)
class Gradientless(Wrapped):
    """A model that could not give a gradient if it were asked for one; everything else is the inner model's.

    Attributes:
        inner: The model, whose local updates serve attacks that need no gradient.
        why: Why there is no gradient, as one sentence.
    """

    inner: VolumeModel
    why: str

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> Never:
        """Refuse: there is no gradient.

        Raises:
            NotDifferentiable: Always.
        """
        raise NotDifferentiable(self.why)
