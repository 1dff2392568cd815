"""The matrices that resample an axis, kept as a band: a voxel of the result draws on its neighbourhood only.

A short axis is one dense matrix. A long one is blocks of rows, each dense over the columns that it draws on, so that
memory grows with the axis's length and not with its square.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Float64
from scipy import ndimage
from torch import Tensor

from voxward.core.errors import UserError

# How far the edge is continued before the spline's coefficients are solved for; scipy uses the same 12.
_MARGIN = 12
# Of a weight; what it would contribute is far below a float64's rounding.
_NEGLIGIBLE = 1e-20
# How many voxels away a voxel still has more weight than that: the prefilter's tails fall by 0.27 a voxel (order 3).
_TAIL = 40
# A matrix of so many numbers is kept in one piece: 1 MiB in float64.
_ONE_PIECE = 2**17
# The rows of a block of a longer axis.
_ROWS = 64


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of a matrix, over the columns outside of which they are 0.

    Attributes:
        row: The first row.
        column: The first column.
        weights: (rows, columns), float64.
    """

    row: int
    column: int
    weights: Tensor

    @property
    def rows(self) -> slice:
        """Return the block's rows of the matrix."""
        return slice(self.row, self.row + self.weights.shape[0])

    @property
    def columns(self) -> slice:
        """Return the block's columns of the matrix."""
        return slice(self.column, self.column + self.weights.shape[1])


@dataclass(frozen=True, eq=False)
class Band:
    """A matrix (n_out, n_in) whose weights lie close to a diagonal.

    Attributes:
        n_out: The number of rows.
        n_in: The number of columns.
        blocks: Blocks of rows that follow each other without a gap and make up all rows.
    """

    n_out: int
    n_in: int
    blocks: tuple[Block, ...]

    @cached_property
    def weights(self) -> int:
        """Return how many numbers the blocks hold."""
        return sum(block.weights.numel() for block in self.blocks)

    @cached_property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and the last column with a weight, of every row. Both never fall from row to row."""
        first, last = np.zeros(self.n_out, int), np.zeros(self.n_out, int)
        for block in self.blocks:
            held = block.weights.numpy() != 0
            first[block.rows] = block.column + held.argmax(1)
            last[block.rows] = block.columns.stop - 1 - held[:, ::-1].argmax(1)
        return first, last

    @cached_property
    def transposed(self) -> Band:
        """Return the transposed matrix."""
        if len(self.blocks) == 1:
            (block,) = self.blocks
            return Band(self.n_in, self.n_out, (Block(0, 0, block.weights.T),))
        return Band(self.n_in, self.n_out, tuple(self._columns(start) for start in range(0, self.n_in, _ROWS)))

    def part(self, rows: slice, columns: slice) -> Band:
        """Return some rows and columns, as a matrix of their own that shares the weights."""
        blocks = tuple(self._cut(rows, columns))
        return Band(rows.stop - rows.start, columns.stop - columns.start, blocks)

    def pieces(self, device: torch.device, dtype: torch.dtype) -> tuple[Block, ...]:
        """Return the blocks with their weights on a device, in a number type; they stay there for the next call.

        Args:
            device: The device.
            dtype: The number type.
        """
        if (device, dtype) not in self._pieces:
            with torch.inference_mode(False):  # a tensor of that mode cannot be used outside it
                placed = (Block(block.row, block.column, block.weights.to(device, dtype)) for block in self.blocks)
                self._pieces[device, dtype] = tuple(placed)
        return self._pieces[device, dtype]

    @cached_property
    def _pieces(self) -> dict[tuple[torch.device, torch.dtype], tuple[Block, ...]]:
        return {}

    def dense(self) -> Float64[Tensor, "n_out n_in"]:
        """Return the whole matrix."""
        whole = torch.zeros(self.n_out, self.n_in, dtype=torch.float64)
        for block in self.blocks:
            whole[block.rows, block.columns] = block.weights
        return whole

    def _cut(self, rows: slice, columns: slice) -> Iterator[Block]:
        for block in self.blocks:
            (a, b), (c, d) = _common(block.rows, rows), _common(block.columns, columns)
            if a < b:
                d = max(c, d)  # rows without a weight in these columns stay, as rows of 0
                weights = block.weights[a - block.row : b - block.row, c - block.column : d - block.column]
                yield Block(a - rows.start, c - columns.start if c < d else 0, weights)

    def _columns(self, start: int) -> Block:
        """Some columns of the matrix, as a block of the transposed one."""
        columns = slice(start, min(start + _ROWS, self.n_in))
        drawn = [block for block in self.blocks if block.columns.start < columns.stop and start < block.columns.stop]
        if not drawn:
            return Block(start, 0, torch.zeros(columns.stop - start, 0, dtype=torch.float64))
        rows = slice(drawn[0].row, drawn[-1].rows.stop)
        return Block(start, rows.start, Band(self.n_out, self.n_in, tuple(drawn)).part(rows, columns).dense().T)


@lru_cache(maxsize=32)
def axis_band(n_in: int, n_out: int, order: int) -> Band:
    """Return the matrix that resamples one axis. It is cached and shared: do not write into it.

    Args:
        n_in: The length before, in voxels.
        n_out: The length after, in voxels.
        order: The spline's order: 0 takes the nearest voxel (the upper one of a tie), 1 interpolates linearly, 2 and 3
            are interpolating B-splines (with prefilter).

    Returns:
        The matrix (n_out, n_in), whose rows each sum to 1.

    Raises:
        UserError: A length is below 1, or the order is none of these.
    """
    if n_in < 1 or n_out < 1:
        raise UserError(f"an axis needs at least one voxel, got {n_in} -> {n_out}")
    if order not in range(4):
        raise UserError(f"order must be 0, 1, 2 or 3, got {order}")
    if n_in * n_out <= _ONE_PIECE:
        return Band(n_out, n_in, (Block(0, 0, _weights(_positions(n_in, n_out), n_in, order)),))
    positions, blocks = _positions(n_in, n_out), []
    rows = min(_ROWS, max(1, _ROWS * n_out // n_in))  # where an axis shrinks, a row steps over many columns
    for row in range(0, n_out, rows):
        blocks.append(_block(row, positions[row : row + rows], n_in, order))
    return Band(n_out, n_in, tuple(blocks))


def linear_band(positions: np.ndarray, n_in: int) -> Band:
    """Return the matrix that interpolates an axis linearly at any positions; beyond its ends the edge goes on.

    Args:
        positions: Where each voxel of the result samples the axis, in voxels of the axis, never falling.
        n_in: The length of the axis in voxels.

    Returns:
        The matrix (number of positions, n_in), whose rows each sum to 1.
    """
    place, count = np.clip(positions, 0, n_in - 1), len(positions)
    if n_in * count <= _ONE_PIECE:
        return Band(count, n_in, (Block(0, 0, _weights(place, n_in, 1)),))
    rows = min(_ROWS, max(1, _ROWS * count // n_in))
    return Band(count, n_in, tuple(_block(row, place[row : row + rows], n_in, 1) for row in range(0, count, rows)))


def _positions(n_in: int, n_out: int) -> np.ndarray:
    """Where each voxel of the result samples the axis, in voxels of the axis."""
    return (np.arange(n_out) + 0.5) * n_in / n_out - 0.5


def _block(row: int, positions: np.ndarray, n_in: int, order: int) -> Block:
    """The rows that sample at `positions`, computed from the columns around these, as if the axis ended there."""
    reach = _TAIL if order > 1 else 2
    first = int(np.clip(np.floor(positions[0]) - reach, 0, n_in - 1))
    stop = int(np.clip(np.ceil(positions[-1]) + reach + 1, first + 1, n_in))
    weights = _weights(positions - first, stop - first, order)
    held = torch.nonzero(weights.any(dim=0)).flatten()
    begin, end = int(held[0]), int(held[-1]) + 1
    return Block(row, first + begin, weights[:, begin:end].clone())


def _weights(position: np.ndarray, n_in: int, order: int) -> Float64[Tensor, "n_out n_in"]:
    """The dense matrix that samples an axis of `n_in` voxels at positions; beyond its ends the edge goes on."""
    if order == 0:
        return torch.from_numpy(np.eye(n_in)[np.clip(np.floor(position + 0.5).astype(int), 0, n_in - 1)])
    extended = np.pad(np.eye(n_in), ((_MARGIN, _MARGIN), (0, 0)), mode="edge")
    if order > 1:
        extended = ndimage.spline_filter1d(extended, order, axis=0, mode="nearest")
    distance = np.abs(position[:, None] + _MARGIN - np.arange(n_in + 2 * _MARGIN))
    matrix = _basis(distance, order) @ extended
    # The prefilter's tails fall below what float32 holds at full precision, and arithmetic on such numbers is slow.
    matrix[np.abs(matrix) < _NEGLIGIBLE] = 0.0
    return torch.from_numpy(matrix)


def _basis(distance: np.ndarray, order: int) -> np.ndarray:
    """The centred B-spline of `order` at a distance from its knot."""
    if order == 1:
        return np.maximum(0.0, 1.0 - distance)
    if order == 2:
        outer = 0.5 * np.maximum(0.0, 1.5 - distance) ** 2
        return np.where(distance < 0.5, 0.75 - distance**2, outer)
    outer = np.maximum(0.0, 2.0 - distance) ** 3 / 6
    return np.where(distance < 1.0, 2 / 3 - distance**2 + distance**3 / 2, outer)


def _common(a: slice, b: slice) -> tuple[int, int]:
    return max(a.start, b.start), min(a.stop, b.stop)
