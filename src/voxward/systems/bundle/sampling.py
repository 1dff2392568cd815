"""One grid of voxels sampled on another one, as MONAI's Spacing does it, and the same for logarithms of probabilities.

MONAI samples with PyTorch's grid_sample in float64. Where the axes of the two grids are parallel, which they are but
for sheared affines, a linear sampling is a matrix for each axis, which needs far less memory and equals it up to
rounding in float64. The nearest voxel is taken by grid_sample itself: half of the voxels may be ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from voxward.core.devices import wide, wide_type
from voxward.core.types import Size3
from voxward.data.bands import Band, linear_band
from voxward.data.resample import apply_matrices

# The logarithm of a probability that is none: what is cut away and put back has no class at all.
NOTHING = -1e4
# Axes that run apart by less than so many voxels over the whole grid are parallel.
_PARALLEL = 1e-3


@dataclass(frozen=True, eq=False)
class Sampling:
    """Samples a grid of voxels on another one; beyond its ends the edge goes on.

    Attributes:
        matrix: (4, 4), from voxels of the new grid to those of the old one.
        before: The shape of the old grid.
        after: The shape of the new grid.
    """

    matrix: np.ndarray
    before: Size3
    after: Size3

    @property
    def positions(self) -> tuple[np.ndarray, ...] | None:
        """Return, per axis, where each new voxel samples the old axis; None where the axes are not parallel."""
        linear, shift = self.matrix[:3, :3], self.matrix[:3, 3]
        skew = np.abs(linear - np.diag(np.diag(linear))) * np.asarray(self.after)
        if skew.sum(1).max() > _PARALLEL or np.diag(linear).min() <= 0:
            return None
        lengths = enumerate(self.after)
        return tuple(np.arange(length) * linear[axis, axis] + shift[axis] for axis, length in lengths)

    def linear(self, x: Float[Tensor, "k d h w"]) -> Float[Tensor, "k d2 h2 w2"]:
        """Interpolate linearly. Differentiable.

        Args:
            x: A tensor (k, d, h, w) of the old grid.

        Returns:
            The tensor of the new grid, in the number type of `x`.
        """
        bands = self._bands
        if bands is None:
            return self._sampled(x)
        # One after the other, so that only one of them is held in float64.
        return torch.cat([apply_matrices(wide(part)[None], bands).to(x.dtype) for part in x])

    def nearest(self, x: Shaped[Tensor, "k d h w"]) -> Shaped[Tensor, "k d2 h2 w2"]:
        """Take the nearest voxel. Differentiable.

        Args:
            x: A tensor (k, d, h, w) of the old grid.

        Returns:
            The tensor of the new grid, in the number type of `x`.
        """
        return x.flatten(1).index_select(1, self._nearest.to(x.device)).view(len(x), *self.after)

    def logarithms(self, x: Float[Tensor, "k d h w"]) -> Float[Tensor, "k d2 h2 w2"]:
        """Interpolate exp(x) linearly and return its logarithm, without ever leaving logarithms. Differentiable.

        A probability of exp(-200) is 0 in float32, and has no gradient; its logarithm has.

        Args:
            x: Logarithms (k, d, h, w) of probabilities on the old grid.
        """
        if self.positions is None:
            shares = self._sampled(wide(x).exp())
            return shares.clamp_min(max(1e-300, torch.finfo(shares.dtype).tiny)).log().to(x.dtype)
        for axis, (place, length) in enumerate(zip(self.positions, self.before, strict=True)):
            x = log_linear(x, axis + 1, place, length)
        return x

    @cached_property
    def _bands(self) -> tuple[Band, Band, Band] | None:
        if self.positions is None:
            return None
        i, j, k = (linear_band(place, length) for place, length in zip(self.positions, self.before, strict=True))
        return i, j, k

    @cached_property
    def _theta(self) -> Tensor:
        """The matrix in the unit of grid_sample, computed in MONAI's order, on which the side of a tie depends."""
        matrix = torch.from_numpy(self.matrix)[None]
        old, new = (_unit(shape) for shape in (self.before, self.after))
        theta = old @ matrix @ torch.from_numpy(np.linalg.inv(new.numpy()))
        order = [2, 1, 0]
        theta[:, :3] = theta[:, order]
        theta[:, :, :3] = theta[:, :, order]
        return theta[:, :3]

    @cached_property
    def _nearest(self) -> Tensor:
        """The place of the nearest old voxel of each new one."""
        places = torch.arange(int(np.prod(self.before)), dtype=torch.float64)
        grid = F.affine_grid(self._theta, [1, 1, *self.after], align_corners=False)
        found = F.grid_sample(places.view(1, 1, *self.before), grid, "nearest", "border", align_corners=False)
        return found.flatten().long()

    def _sampled(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self._theta.to(x.device, wide_type(x)), [1, len(x), *self.after], align_corners=False)
        found = F.grid_sample(wide(x).contiguous()[None], grid, "bilinear", "border", align_corners=False)
        return found[0].to(x.dtype)


def log_linear(x: Float[Tensor, "k d h w"], axis: int, positions: np.ndarray, length: int) -> Tensor:
    """Interpolate exp(x) along one axis, and return its logarithm. Differentiable.

    Args:
        x: Logarithms (k, d, h, w).
        axis: The axis, 1, 2 or 3.
        positions: Where each voxel of the result samples the axis, in voxels.
        length: The length of the axis.
    """
    place = np.clip(positions, 0, length - 1)
    low = np.minimum(np.floor(place).astype(np.int64), max(length - 2, 0))
    high = np.minimum(low + 1, length - 1)
    share = torch.from_numpy(place - low).to(x)
    shape = [-1 if n == axis else 1 for n in range(4)]
    first, second = (torch.log(part).view(shape) for part in (1 - share, share))
    drawn = [x.index_select(axis, torch.from_numpy(index).to(x.device)) for index in (low, high)]
    return torch.logaddexp(drawn[0] + first, drawn[1] + second)


def _unit(shape: Size3) -> Tensor:
    """The matrix from voxels to the unit of grid_sample, in which a grid reaches from -1 to 1."""
    lengths = torch.tensor(shape, dtype=torch.float64)
    found = torch.diag(torch.cat((2.0 / lengths, torch.ones(1, dtype=torch.float64))))
    found[:-1, -1] = 1.0 / lengths - 1.0
    return found[None]
