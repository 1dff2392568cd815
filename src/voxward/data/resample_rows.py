"""Linear resampling of logits that arrive in slabs, so that no volume of logits is ever held as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.types import Size3
from voxward.data.bands import Band, axis_band
from voxward.data.resample import apply_matrices

# Logits (all classes of some rows) that are resampled at once: 8 MiB in float32.
_SLAB = 2**21


def resampled_rows(
    slabs: Iterable[Tensor], source: Size3, target: Size3, axis: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """Resample logits linearly, and yield rows of the result as soon as they are complete.

    Args:
        slabs: Logits (k, d, h, w) that follow each other along the spatial `axis` and together have the shape `source`.
        source: The shape (d, h, w) of all slabs together.
        target: The shape (d, h, w) of all results together.
        axis: The spatial axis (0, 1, 2) along which slabs and rows follow each other.

    Yields:
        The number of a row of the target along `axis`, and the float32 logits (k, ...) of that row and some that follow
        it.

    Raises:
        UserError: The slabs do not make up the shape `source`.
    """
    matrix = _matrix(source[axis], target[axis])
    held: Tensor | None = None
    first = seen = done = 0
    for slab in slabs:
        _check_slab(slab, seen, source, axis)
        held = slab if held is None or not held.shape[axis + 1] else torch.cat((held, slab), dim=axis + 1)
        del slab  # or it would live on while the next one is made
        seen = first + held.shape[axis + 1]
        ready = _ready(matrix, seen, source[axis])
        yield from _rows(held, first, range(done, ready), (source, target), axis)
        keep, done = min(_next_needed(matrix, seen, source[axis]), seen), ready
        # A clone, because a view of the few rows still needed would keep the whole slab.
        held, first = held.narrow(axis + 1, keep - first, seen - keep).clone(), keep
    if done < target[axis]:
        raise UserError(f"the slabs end before the prepared shape {source} is complete")


def _check_slab(slab: Tensor, row: int, source: Size3, axis: int) -> None:
    fits = slab.ndim == 4 and all(
        row + length <= whole if n == axis else length == whole
        for n, (length, whole) in enumerate(zip(slab.shape[1:], source, strict=True))
    )
    if not fits:
        raise UserError(f"slab {tuple(slab.shape)} at row {row} does not fit the prepared shape {source}")


def _rows(
    held: Tensor, first: int, rows: range, shapes: tuple[Size3, Size3], axis: int
) -> Iterator[tuple[int, Tensor]]:
    """Target `rows` along `axis` in slabs, from source rows that begin with number `first`; shapes: source, target."""
    matrices = [_matrix(n, m) for n, m in zip(*shapes, strict=True)]
    along = matrices[axis]
    area = max(int(np.prod(shape)) // shape[axis] for shape in shapes)
    step = max(1, _SLAB // (len(held) * area))
    for begin in range(rows.start, rows.stop, step):
        end = min(begin + step, rows.stop)
        low, high = _support(along, begin, end)
        matrices[axis] = None if along is None else along.part(slice(begin, end), slice(low, high))
        d, h, w = matrices
        yield begin, apply_matrices(held.narrow(axis + 1, low - first, high - low).float(), (d, h, w))


def _matrix(source: int, target: int) -> Band | None:
    return None if source == target else axis_band(source, target, 1)


def _support(matrix: Band | None, begin: int, end: int) -> tuple[int, int]:
    """The range of input rows that output rows begin:end draw on."""
    return (begin, end) if matrix is None else (int(matrix.reach[0][begin]), int(matrix.reach[1][end - 1]) + 1)


def _ready(matrix: Band | None, seen: int, total: int) -> int:
    """How many output rows draw only on the first `seen` of `total` input rows."""
    if matrix is None:
        return seen
    return matrix.n_out if seen == total else int(np.searchsorted(matrix.reach[1], seen))


def _next_needed(matrix: Band | None, seen: int, total: int) -> int:
    """The first input row that the output rows still to come draw on."""
    ready = _ready(matrix, seen, total)
    done = total if matrix is None else matrix.n_out
    return total if ready == done else _support(matrix, ready, ready + 1)[0]
