"""How nnU-Net's array lies in a file: its order of axes, its crop box, and the grid that it is resampled to.

All of this follows from a volume's shape, its spacing and which voxels are 0. It is held while a volume is attacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from scipy import ndimage
from torch import Tensor

from voxward.core.case import Volume
from voxward.core.types import Float3, Size3
from voxward.data.orient import orientation
from voxward.systems.nnunet.plans import NnPlan
from voxward.systems.nnunet.resampling import grid_of


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where nnU-Net's arrays lie in a file. Sizes and axes are those of the transposed array, if nothing else is said.

    Attributes:
        axes: For each axis, its number in the file (i, j, k).
        flips: Whether each axis runs backwards, which only readers that turn to RAS do.
        shape: The shape of the whole array.
        box: The crop box.
        inside: The voxels of the crop box that count as inside the scan: those that are not 0 in every channel, and the
            holes between them.
        grid: The shape that the crop box is resampled to.
        spacing: The voxel size of the file in mm.
        target: The voxel size that the crop box is resampled to.
    """

    axes: Size3
    flips: tuple[bool, bool, bool]
    shape: Size3
    box: tuple[slice, slice, slice]
    inside: Bool[Tensor, "d h w"]
    grid: Size3
    spacing: Float3
    target: Float3

    @property
    def cropped(self) -> Size3:
        """Return the shape of the crop box."""
        d, h, w = (part.stop - part.start for part in self.box)
        return d, h, w

    def cut(self, x: Shaped[Tensor, "*b i j k"]) -> Shaped[Tensor, "*b d h w"]:
        """Return the crop box of a tensor in the file's voxels. Differentiable.

        Args:
            x: A tensor (..., i, j, k) in the order of the file.
        """
        return self._turned(x)[(..., *self.box)]

    def paste(self, box: Shaped[Tensor, "k d h w"], outside: Shaped[Tensor, " k"]) -> Shaped[Tensor, "k i j l"]:
        """Put the crop box back into the file's voxels. Differentiable.

        Args:
            box: A tensor (k, d, h, w) of the crop box.
            outside: What stands outside the crop box, one value per entry of the first axis (k).
        """
        whole = outside.view(-1, 1, 1, 1).expand(-1, *self.shape).clone()
        whole[(slice(None), *self.box)] = box
        dims = self._flipped
        return (whole.flip(dims) if dims else whole).permute(0, *(1 + self.axes.index(axis) for axis in range(3)))

    @property
    def _flipped(self) -> list[int]:
        return [axis - 3 for axis, flip in enumerate(self.flips) if flip]

    def _turned(self, x: Tensor) -> Tensor:
        lead = x.ndim - 3
        turned = x.permute(*range(lead), *(lead + axis for axis in self.axes))
        return turned.flip(self._flipped) if self._flipped else turned


def geometry_of(volume: Volume, plan: NnPlan) -> Geometry:
    """Return how nnU-Net's arrays lie in a volume.

    Args:
        volume: The volume (c, i, j, k) as its file stores it.
        plan: The plan of the results folder.
    """
    order, flips = orientation(volume.affine) if plan.reader == "reoriented" else ((0, 1, 2), (False, False, False))
    # The file's array (z, y, x) is the volume's (i, j, k) backwards.
    backwards = tuple(2 - axis for axis in plan.transpose)
    i, j, k = (order[axis] for axis in backwards)
    a, b, c = (flips[axis] for axis in backwards)
    array = volume.array.transpose(0, 1 + i, 1 + j, 1 + k)
    turned = np.flip(array, tuple(1 + axis for axis, flip in enumerate((a, b, c)) if flip))
    filled = ndimage.binary_fill_holes((turned != 0).any(0))
    box = _box(filled)
    # Headers hold the voxel size in single precision, and nnU-Net reads it so.
    x, y, z = (float(np.float32(volume.spacing[axis])) for axis in (i, j, k))
    target = plan.target((x, y, z))
    grid = grid_of(_size3([part.stop - part.start for part in box]), (x, y, z), target, plan.data)
    inside = torch.from_numpy(np.ascontiguousarray(filled[box]))
    return Geometry(
        axes=(i, j, k), flips=(a, b, c), shape=_size3(filled.shape), box=box, inside=inside, grid=grid,
        spacing=(x, y, z), target=target,
    )  # fmt: skip


def _box(mask: Bool[np.ndarray, "d h w"]) -> tuple[slice, slice, slice]:
    """The tight box of the voxels; all of it where there are none."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    a, b, c = found[0] if found else tuple(slice(0, length) for length in mask.shape)
    return a, b, c


def _size3(values: Sequence[int]) -> Size3:
    i, j, k = values
    return i, j, k
