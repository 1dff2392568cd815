"""The 16 symmetries of a volume whose slices are square: mirrored or not along the slices' normal, times the eight of
the square (four quarter turns, mirrored or not).

They are the test-time augmentation of Henry et al., BraTS 2020 (section 2.6): flips, and rotations in the axial plane
only. The authors' code takes every product of one flip and one rotation instead, which makes 12 different ones, four
of them twice, and never mirrors the normal together with an axis of the plane; and it undoes 4 of the 16 wrongly.
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
    """First mirror, then turn: one of the 16.

    turns: quarter turns (0 to 3) in the plane, from its first axis towards its second. mirrored: along the plane's
    first axis, before the turn. flipped: along the normal. normal: the spatial axis (0 to 2) across the plane; 2
    points to the head in oriented volumes, so that the plane is the axial one. Raises ValueError for other values.
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
        """(..., d, h, w), array or tensor -> its voxels moved; the sizes in the plane swapped where `swaps`.

        Exact: no voxel is interpolated. Differentiable on tensors; the result may be a view. Raises ValueError for
        fewer than three axes.
        """
        if volume.ndim < 3:
            raise UserError(f"volume must have three spatial axes, got shape {tuple(volume.shape)}")
        first, second = self._plane
        axes = tuple(axis for axis, wanted in ((first, self.mirrored), (self.normal - 3, self.flipped)) if wanted)
        if isinstance(volume, Tensor):
            return torch.rot90(volume.flip(axes), self.turns, (first, second))
        return np.rot90(np.flip(volume, axes), self.turns, (first, second))

    def inverse(self) -> Symmetry:
        """The one that undoes it: first the turn, then the mirror."""
        turns = self.turns if self.mirrored else -self.turns % 4
        return Symmetry(turns, self.mirrored, self.flipped, self.normal)

    @property
    def _plane(self) -> tuple[int, int]:
        first, second = (axis - 3 for axis in range(3) if axis != self.normal)
        return first, second


def symmetries(normal: int = 2) -> tuple[Symmetry, ...]:
    """The 16, the identity first. Raises ValueError for a normal that is not 0, 1 or 2."""
    return tuple(
        Symmetry(turns, mirrored, flipped, normal)
        for flipped in (False, True)
        for mirrored in (False, True)
        for turns in range(4)
    )


def seen_through(forward: Forward, symmetry: Symmetry) -> Forward:
    """`forward` on volumes (n, c, d, h, w) moved by `symmetry`, its logits moved back."""
    back = symmetry.inverse()
    return lambda images: back.apply(forward(symmetry.apply(images)))
