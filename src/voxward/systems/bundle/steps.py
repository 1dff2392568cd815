"""What a step of preprocessing is, before and after it is bound to a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from voxward.core.types import Image

NewImage = Float[Tensor, "c d2 h2 w2"]
"""An image on another grid than the one that it was made from."""

Undo = Literal["linear", "nearest", "logarithms"]
"""How values come back to a finer or coarser grid: interpolated; the nearest; or as logarithms of what is interpolated.
"""


@runtime_checkable
class Placed(Protocol):
    """A step that is bound to a volume: what it decides from a volume (a box, for example) is decided."""

    def apply(self, x: Image) -> NewImage:
        """Return the image (c, d, h, w) after the step. Differentiable."""
        ...

    def undo(self, x: Shaped[Tensor, "k d h w"], how: Undo, fill: float) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Bring values (k, d, h, w) of the network's grid back through the step. Differentiable.

        Args:
            x: The values.
            how: How they are sampled on another grid.
            fill: What stands where the step cut voxels away.
        """
        ...

    def truth(self, x: Shaped[Tensor, "k d h w"]) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Bring class indices (k, d, h, w) to the grid after the step."""
        ...


@runtime_checkable
class Step(Protocol):
    """A step of preprocessing, as the bundle's configuration describes it."""

    @property
    def moves(self) -> bool:
        """Return whether voxels lie elsewhere after the step."""
        ...

    def place(self, x: Image, affine: np.ndarray, hold: bool) -> tuple[Placed, np.ndarray]:
        """Bind the step to an image.

        Args:
            x: The image (c, d, h, w) before the step.
            affine: Its affine (4, 4).
            hold: Whether the statistics of this image normalise every other one; otherwise each has its own.

        Returns:
            The bound step, and the affine after it.

        Raises:
            UserError: The image cannot be prepared so.
        """
        ...


@dataclass(frozen=True, eq=False)
class Preparation:
    """All steps of preprocessing, bound to a volume.

    Attributes:
        steps: The bound steps, in their order.
        affine: The affine of the prepared image.
    """

    steps: tuple[Placed, ...]
    affine: np.ndarray

    def apply(self, x: Image) -> NewImage:
        """Prepare a volume (c, i, j, k) in the file's voxels. Differentiable."""
        for step in self.steps:
            x = step.apply(x)
        return x

    def undo(self, x: Shaped[Tensor, "k d h w"], how: Undo, fill: float) -> Shaped[Tensor, "k i j l"]:
        """Bring values of the network's grid back to the file's voxels. Differentiable; see `Placed.undo`."""
        for step in reversed(self.steps):
            x = step.undo(x, how, fill)
        return x

    def truth(self, x: Shaped[Tensor, "k i j l"]) -> Shaped[Tensor, "k d h w"]:
        """Bring class indices of the file to the network's grid."""
        for step in self.steps:
            x = step.truth(x)
        return x


def prepare(steps: Sequence[Step], x: Image, affine: np.ndarray, hold: bool) -> tuple[Preparation, NewImage]:
    """Bind all steps to a volume, and prepare it.

    Args:
        steps: The steps of preprocessing.
        x: The volume (c, i, j, k).
        affine: Its affine.
        hold: Whether its statistics normalise every volume that is prepared later.

    Returns:
        The bound steps and the prepared image.
    """
    placed = []
    for step in steps:
        one, affine = step.place(x, affine, hold)
        placed.append(one)
        x = one.apply(x)
    return Preparation(tuple(placed), affine), x
