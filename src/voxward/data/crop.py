"""The crop box of a case, cut out of the file's voxels and put back into them, for arrays and for tensors.

The two directions stand side by side and change together. The crop box is in RAS order; the file's voxels are in the
order of the file.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import DTypeLike
from torch import Tensor

from voxward.core.case import Frame
from voxward.core.errors import UserError
from voxward.data.orient import box_slices, orient


def crop_frozen(x: Shaped[Tensor, "*b i j k"], frame: Frame) -> Shaped[Tensor, "*b d h w"]:
    """Cut the crop box out of a tensor in the file's voxels. Differentiable.

    Args:
        x: A tensor (..., i, j, k) in the file's voxel order, of shape `frame.source_shape`.
        frame: How the crop box lies in the file.

    Returns:
        The crop box (..., d, h, w) in RAS order, a view of `x` where possible.
    """
    lead = x.ndim - 3
    turned = x.permute(*range(lead), *(lead + axis for axis in frame.axes))
    return _flipped(turned, frame)[(..., *box_slices(frame.box_start, frame.box_stop))]


def paste_frozen(
    box: Float[Tensor, "k d h w"], frame: Frame, outside: Float[Tensor, " k"]
) -> Float[Tensor, "k i j k2"]:
    """Put a crop box back into the file's voxels. Differentiable.

    Args:
        box: A tensor (k, d, h, w) of the crop box, in RAS order.
        frame: How the crop box lies in the file.
        outside: What stands outside the crop box, one value per entry of the first axis (k).

    Returns:
        A tensor (k, i, j, k2) in the file's voxel order.
    """
    i, j, k = (frame.source_shape[axis] for axis in frame.axes)
    if (i, j, k) != frame.box_shape:
        whole = outside.view(-1, 1, 1, 1).expand(-1, i, j, k).clone()
        whole[(slice(None), *box_slices(frame.box_start, frame.box_stop))] = box
        box = whole
    return _flipped(box, frame).permute(0, *(1 + frame.axes.index(axis) for axis in range(3)))


def paste(box: Shaped[np.ndarray, "d h w"], frame: Frame) -> Shaped[np.ndarray, "i j k"]:
    """Put an array of the crop box back into the file's voxels.

    Args:
        box: An array (d, h, w) of the crop box, in RAS order.
        frame: How the crop box lies in the file.

    Returns:
        An array (i, j, k) in the file's shape and voxel order; 0 outside the crop box.

    Raises:
        UserError: `box` has not the shape of the crop box.
    """
    if box.shape != frame.box_shape:
        raise UserError(f"box must have the shape of the crop box {frame.box_shape}, got {box.shape}")
    whole, part = blank(frame, box.dtype)
    part[:] = box
    return whole


def blank(frame: Frame, dtype: DTypeLike) -> tuple[Shaped[np.ndarray, "i j k"], Shaped[np.ndarray, "d h w"]]:
    """Return zeros in the file's shape, and the part of them that is the crop box.

    Args:
        frame: How the crop box lies in the file.
        dtype: The number type of the array.

    Returns:
        Zeros (i, j, k) in the file's voxel order, and a view (d, h, w) of the crop box in RAS order. Writing into the
        view writes into the zeros.
    """
    whole = np.zeros(frame.source_shape, dtype)
    return whole, orient(whole, frame.axes, frame.flips)[box_slices(frame.box_start, frame.box_stop)]


def _flipped(x: Tensor, frame: Frame) -> Tensor:
    """Flip the last three axes, in RAS order, as the frame says; its own inverse."""
    dims = [axis - 3 for axis, flip in enumerate(frame.flips) if flip]
    return x.flip(dims) if dims else x
