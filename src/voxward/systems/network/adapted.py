"""A user's network as the pipeline calls it: windows of the prepared volume, logits in the order of the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.model import Head
from voxward.core.types import Images, Logits
from voxward.systems.network.axes import Axes


@dataclass(frozen=True)
class Convention:
    """What a network expects and returns.

    Attributes:
        axes: The axes of its windows.
        slicewise: Whether it is a 2D network, which takes a volume slice by slice across its last axis.
        order: For each class or region the number of the network's output that stands for it.
        probabilities: Whether it returns probabilities in place of logits.
        head: Whether outputs exclude each other (`softmax`) or not (`regions`).
        result: Where it returns several results, which of them counts: a number from 0, or a key.
    """

    axes: Axes
    slicewise: bool
    order: tuple[int, ...]
    probabilities: bool
    head: Head
    result: int | str | None = None


class AdaptedNetwork(nn.Module):
    """A network in the form that the pipeline calls it.

    Args:
        network: From images (b, c, *spatial) to logits or probabilities (b, k, *spatial).
        convention: What it expects and returns.
    """

    def __init__(self, network: nn.Module, convention: Convention) -> None:
        super().__init__()
        self.network, self.convention = network, convention

    def forward(self, images: Images) -> Logits:
        """Return the logits (b, k, d, h, w) of windows (b, c, d, h, w).

        Raises:
            UserError: The network returns something else than one tensor of the windows' size with all outputs, or
                values that are no probabilities where it should return these.
        """
        how = self.convention
        seen = how.axes.turned(images)
        b, c, d, h, w = seen.shape
        if how.slicewise:
            found = self._checked(seen.movedim(-1, 1).reshape(b * w, c, d, h))
            found = found.reshape(b, w, -1, d, h).movedim(1, -1)
        else:
            found = self._checked(seen.contiguous())
        logits = _logits(found, how.head) if how.probabilities else found
        if how.order != tuple(range(len(how.order))):
            logits = logits[:, list(how.order)]
        return how.axes.turned_back(logits)

    def _counting(self, found: Any) -> Any:
        """The one of several results that counts."""
        which = self.convention.result
        if which is None or isinstance(found, Tensor):
            return found
        try:
            return found[which]
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(f"the network has no result {which!r}") from error

    def _checked(self, images: Tensor) -> Tensor:
        found: Any = self._counting(self.network(images))
        expected = (len(images), len(self.convention.order), *images.shape[2:])
        if not isinstance(found, Tensor) or not found.is_floating_point():
            kind = str(found.dtype) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"the network must return one tensor of numbers, got {kind}; if it returns several, say by result which"
            )
        if tuple(found.shape) != expected:
            raise UserError(
                f"for an image of shape {tuple(images.shape)} and {expected[1]} classes or regions the network must "
                f"return the shape {expected}, got {tuple(found.shape)}"
            )
        return found


def _logits(found: Tensor, head: Head) -> Tensor:
    """Numbers whose softmax, or sigmoid, gives the probabilities back."""
    with torch.no_grad():
        low, high = float(found.min()), float(found.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise UserError(
            f"the network should return probabilities (returns: probabilities), got values from {low:.3g} to {high:.3g}"
        )
    numbers = torch.finfo(found.dtype)
    if head == "softmax":
        return found.clamp_min(numbers.tiny).log()
    inside = found.clamp(numbers.tiny, 1 - numbers.eps)
    return inside.log() - (1 - inside).log()
