"""The 16 symmetries of a volume whose slices are square.

Each is mirrored or not along the slices' normal, times one of the eight symmetries of the square (four quarter turns,
mirrored or not). They are the test-time augmentation of Henry et al., BraTS 2020 (section 2.6): flips, and rotations in
the axial plane only. The authors' code takes every product of one flip and one rotation instead. That makes 12
different symmetries, four of them twice, and never mirrors the normal together with an axis of the plane; and the code
undoes 4 of the 16 wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.pipeline.windows import Forward

Volume = TypeVar("Volume", np.ndarray, Tensor)


@dataclass(frozen=True)
class Symmetry:
    """One of the 16 symmetries: first mirror, then turn.

    Attributes:
        turns: Quarter turns (0 to 3) in the plane, from its first axis towards its second.
        mirrored: Mirror along the plane's first axis, before the turn.
        flipped: Mirror along the normal.
        normal: The spatial axis (0 to 2) across the plane. In oriented volumes 2 points to the head, so that the plane
            is the axial one.

    Raises:
        UserError: A value is not among those named here.
    """

    turns: int = 0
    mirrored: bool = False
    flipped: bool = False
    normal: int = 2

    def __post_init__(self) -> None:
        if self.turns not in range(4):
            raise UserError(f"turns must be from 0 to 3, got {self.turns}")
        if self.normal not in range(3):
            raise UserError(f"normal must be the axis 0, 1 or 2, got {self.normal}")

    def apply(self, volume: Volume) -> Volume:
        """Move the voxels of a volume.

        No voxel is interpolated, so the result is exact. It is differentiable on tensors, and may be a view.

        Args:
            volume: An array or tensor (..., d, h, w).

        Returns:
            The moved volume. An odd number of quarter turns swaps the two sizes (and spacings) of the plane.

        Raises:
            UserError: The volume has fewer than three axes.
        """
        if volume.ndim < 3:
            raise UserError(f"volume must have three spatial axes, got shape {tuple(volume.shape)}")
        first, second = self._plane
        axes = tuple(axis for axis, wanted in ((first, self.mirrored), (self.normal - 3, self.flipped)) if wanted)
        if isinstance(volume, Tensor):
            return torch.rot90(volume.flip(axes), self.turns, (first, second))
        return np.rot90(np.flip(volume, axes), self.turns, (first, second))

    def inverse(self) -> Symmetry:
        """Return the symmetry that undoes this one, which is again one of the 16."""
        turns = self.turns if self.mirrored else -self.turns % 4
        return Symmetry(turns, self.mirrored, self.flipped, self.normal)

    @property
    def direction(self) -> int:
        """Return where the axis 0 (left to right) points afterwards: 1 as before, -1 back, 0 along another axis."""
        if self.normal == 0:
            return -1 if self.flipped else 1
        if self.turns % 2:
            return 0
        return -1 if self.mirrored != (self.turns == 2) else 1

    @property
    def _plane(self) -> tuple[int, int]:
        first, second = (axis - 3 for axis in range(3) if axis != self.normal)
        return first, second


def symmetries(normal: int = 2) -> tuple[Symmetry, ...]:
    """Return the 16 symmetries, the identity first.

    Args:
        normal: The spatial axis across the plane, 0, 1 or 2.

    Raises:
        UserError: `normal` is none of these.
    """
    return tuple(
        Symmetry(turns, mirrored, flipped, normal)
        for flipped in (False, True)
        for mirrored in (False, True)
        for turns in range(4)
    )


def seen_through(forward: Forward, symmetry: Symmetry) -> Forward:
    """Return a forward pass that sees its volumes moved, and moves its logits back.

    Args:
        forward: The network's forward pass on volumes (n, c, d, h, w).
        symmetry: How they are moved.
    """
    back = symmetry.inverse()
    return lambda images: back.apply(forward(symmetry.apply(images)))
