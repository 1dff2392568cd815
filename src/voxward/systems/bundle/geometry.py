"""The steps of preprocessing that turn and resample: orientation, spacing, resizing."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel
import numpy as np
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from voxward.core.devices import wide
from voxward.core.types import Image, Size3
from voxward.systems.bundle.boxes import per_axis, size3
from voxward.systems.bundle.sampling import Sampling, log_linear
from voxward.systems.bundle.steps import NewImage, Placed, Undo

# MONAI resamples nothing where the new grid is the old one up to this.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Unmoved:
    """A bound step that leaves voxels where they are."""

    def apply(self, x: Image) -> NewImage:
        """Return the image."""
        return x

    def undo(self, x: Shaped[Tensor, "k d h w"], how: Undo, fill: float) -> Shaped[Tensor, "k d h w"]:
        """Return the values."""
        return x

    def truth(self, x: Shaped[Tensor, "k d h w"]) -> Shaped[Tensor, "k d h w"]:
        """Return the class indices."""
        return x


@dataclass(frozen=True)
class Turn:
    """Axes in another order, some of them backwards.

    Attributes:
        axes: For each new axis, the old one.
        flips: Whether each new axis runs backwards.
    """

    axes: Size3
    flips: tuple[bool, bool, bool]

    def apply(self, x: Image) -> NewImage:
        """Turn an image."""
        return self._turned(x)

    def undo(self, x: Shaped[Tensor, "k d h w"], how: Undo, fill: float) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Turn values back."""
        return x.flip(self._flipped).permute(0, *(self.axes.index(axis) + 1 for axis in range(3)))

    def truth(self, x: Shaped[Tensor, "k d h w"]) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Turn class indices."""
        return self._turned(x)

    def _turned(self, x: Tensor) -> Tensor:
        return x.permute(0, *(axis + 1 for axis in self.axes)).flip(self._flipped)

    @property
    def _flipped(self) -> list[int]:
        return [axis + 1 for axis, flip in enumerate(self.flips) if flip]


@dataclass(frozen=True)
class Orientation:
    """Turns the axes towards named directions.

    Attributes:
        codes: The directions, such as `RAS`.
    """

    codes: str
    moves = True

    def place(self, x: Image, affine: np.ndarray, hold: bool) -> tuple[Placed, np.ndarray]:
        """Bind the step to an image; see Step."""
        wanted = nibabel.orientations.axcodes2ornt(self.codes)
        found = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), wanted)
        i, j, k = (int(axis) for axis in np.argsort(found[:, 0]))
        flips = tuple(bool(found[axis, 1] < 0) for axis in (i, j, k))
        moved = affine @ nibabel.orientations.inv_ornt_aff(found, x.shape[1:])
        return Turn((i, j, k), (flips[0], flips[1], flips[2])), moved


@dataclass(frozen=True, eq=False)
class Resampled:
    """Another grid.

    Attributes:
        there: Samples the old grid on the new one.
        back: Samples the new grid on the old one; None where that is the same.
    """

    there: Sampling
    back: Sampling | None

    def apply(self, x: Image) -> NewImage:
        """Interpolate an image linearly."""
        return self.there.linear(x)

    def undo(self, x: Shaped[Tensor, "k d h w"], how: Undo, fill: float) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Sample values on the old grid."""
        if self.back is None:
            return x
        found: Tensor = getattr(self.back, how)(x)
        return found

    def truth(self, x: Shaped[Tensor, "k d h w"]) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Take the class of the nearest voxel."""
        return self.there.nearest(x)


@dataclass(frozen=True)
class Spacing:
    """Resamples to voxels of a given size, linearly.

    Attributes:
        sizes: The voxel size per axis in mm; 0 or less keeps that of the volume. A single one, or the last, holds for
            the axes after it.
        least: Per axis, the smallest voxel size that is left as it is; NaN for none.
        most: Per axis, the largest one.
    """

    sizes: tuple[float, ...]
    least: tuple[float, ...] = ()
    most: tuple[float, ...] = ()
    moves = True

    def place(self, x: Image, affine: np.ndarray, hold: bool) -> tuple[Placed, np.ndarray]:
        """Bind the step to an image; see Step."""
        shape = size3(x.shape[1:])
        wanted = _scaled(affine, self._target(affine))
        after, offset = _covering(shape, affine, wanted)
        wanted[:3, 3] = offset
        matrix = np.linalg.solve(affine, wanted)
        moved = affine @ matrix
        if _unchanged(affine, wanted, matrix, shape, after):
            return Unmoved(), affine
        back = np.linalg.solve(moved, affine)
        same = _unchanged(moved, affine, back, after, shape)
        there = Sampling(matrix, shape, after)
        return Resampled(there, None if same else Sampling(back, after, shape)), moved

    def _target(self, affine: np.ndarray) -> np.ndarray:
        own = np.sqrt((affine[:3, :3] ** 2).sum(0))
        given = [*self.sizes[:3], *[self.sizes[-1]] * (3 - len(self.sizes))]
        found = []
        for axis, (size, voxel) in enumerate(zip(given, own, strict=True)):
            low, high = _at(self.least, axis), _at(self.most, axis)
            low = size if np.isnan(low) else min(low, size)
            high = size if np.isnan(high) else max(high, size)
            kept = low - _TOLERANCE <= voxel <= high + _TOLERANCE
            found.append(voxel if kept or size <= 0 else size)
        return np.asarray(found)


@dataclass(frozen=True)
class Stretched:
    """The same box in another number of voxels.

    Attributes:
        before: The shape before.
        after: The shape after.
        aligned: Whether the centres of the corner voxels stay where they are, instead of their corners.
    """

    before: Size3
    after: Size3
    aligned: bool

    def apply(self, x: Image) -> NewImage:
        """Interpolate an image linearly."""
        return self._stretched(x, self.after)

    def undo(self, x: Shaped[Tensor, "k d h w"], how: Undo, fill: float) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Sample values on the old grid."""
        if how == "linear":
            return self._stretched(x, self.before)
        if how == "nearest":
            return _nearest(x, self.before)
        for axis, (old, new) in enumerate(zip(self.before, self.after, strict=True)):
            x = log_linear(x, axis + 1, self._positions(old, new), new) if old != new else x
        return x

    def truth(self, x: Shaped[Tensor, "k d h w"]) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Take the class of the nearest voxel."""
        return _nearest(x, self.after)

    def _stretched(self, x: Tensor, shape: Size3) -> Tensor:
        if tuple(x.shape[1:]) == shape:
            return x
        return F.interpolate(x[None], shape, mode="trilinear", align_corners=self.aligned)[0]

    def _positions(self, count: int, length: int) -> np.ndarray:
        if self.aligned:
            return np.arange(count) * ((length - 1) / max(count - 1, 1))
        return (np.arange(count) + 0.5) * length / count - 0.5


@dataclass(frozen=True)
class Resize:
    """Resamples to a number of voxels, linearly.

    Attributes:
        sizes: The number per axis, or of the longest axis; 0 or less keeps that of the image.
        longest: Whether there is one number, of the longest axis, and the other axes keep their proportion.
        aligned: See Stretched.
    """

    sizes: tuple[int, ...]
    longest: bool = False
    aligned: bool = False
    moves = True

    def place(self, x: Image, affine: np.ndarray, hold: bool) -> tuple[Placed, np.ndarray]:
        """Bind the step to an image; see Step."""
        shape = size3(x.shape[1:])
        if self.longest:
            after = [round(length * (self.sizes[0] / max(shape))) for length in shape]
        else:
            after = [size if size > 0 else length for size, length in zip(per_axis(self.sizes), shape, strict=True)]
        scale = np.eye(4)
        for axis, (old, new) in enumerate(zip(shape, after, strict=True)):
            scale[axis, axis] = (old - 1) / max(new - 1, 1) if self.aligned else old / new
            scale[axis, 3] = 0.0 if self.aligned else (old / new - 1) / 2
        return Stretched(shape, size3(after), self.aligned), affine @ scale


def _scaled(affine: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The affine with other voxel sizes, in the directions of its axes made orthogonal."""
    linear = affine[:3, :3]
    upper = np.linalg.cholesky(linear.T @ linear).T
    found = np.eye(4)
    found[:3, :3] = linear @ np.linalg.inv(upper) @ np.diag(np.sign(np.diag(upper)) * np.abs(sizes))
    return found


def _covering(shape: Size3, affine: np.ndarray, wanted: np.ndarray) -> tuple[Size3, np.ndarray]:
    """The shape that covers all voxel centres of a grid with another one's voxels, and where its first voxel lies."""
    ends = np.asarray(np.meshgrid(*[(0.0, length - 1.0) for length in shape], indexing="ij")).reshape(3, -1)
    corners = np.concatenate((ends, np.ones_like(ends[:1])))
    placed = (np.linalg.solve(wanted, affine) @ corners)[:3]
    after = np.round(np.ptp(placed, axis=1) + 1.0)
    outside = affine @ corners
    for corner in range(corners.shape[1]):
        if np.allclose((placed - placed[:, corner : corner + 1]).min(1), 0.0, rtol=_TOLERANCE):
            return size3(after), outside[:3, corner]
    middle = affine[:3, :3] @ (np.asarray(shape) / 2.0) + affine[:3, 3]
    return size3(after), middle - wanted[:3, :3] @ (after / 2.0)


def _unchanged(old: np.ndarray, new: np.ndarray, matrix: np.ndarray, before: Size3, after: Size3) -> bool:
    near = np.allclose(old, new, atol=_TOLERANCE) or np.allclose(matrix, np.eye(4), atol=_TOLERANCE)
    return bool(near) and before == after


def _nearest(x: Tensor, shape: Size3) -> Tensor:
    return x if tuple(x.shape[1:]) == shape else F.interpolate(wide(x)[None], shape, mode="nearest")[0].to(x.dtype)


def _at(values: tuple[float, ...], axis: int) -> float:
    return values[axis] if axis < len(values) else float("nan")
