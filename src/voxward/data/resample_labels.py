"""Labels resampled so that no object gets lost, and the count of what is left of each class.

Every class's share of a voxel is interpolated linearly, and the largest share wins (`data.resample.resample_labels`).
This keeps the surface of organs, but an object thinner than a voxel wins nowhere: a vessel of 1 mm vanishes at 2 mm.
With `objects`, an object of which less than half lies in voxels of its class gets the voxels that it fills most: all
those in which its share is at least half of its greatest share anywhere. All other objects stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Integer
from scipy import ndimage
from torch import Tensor

from voxward.core.registry import Registry
from voxward.core.types import CaseLabels, Size3
from voxward.data.orient import box_slices
from voxward.data.resample import resample_labels

# Whether objects that would get lost are kept, by the name in a recipe.
LABEL_RESAMPLING: Registry[bool] = Registry("label resampling", {"objects": True, "linear": False})
# An object is lost where less than this share of it lies in voxels of its class.
LOST_BELOW = 0.5
# A lost object gets the voxels in which its share is at least this part of its greatest share.
FILLED = 0.5
# Of a share; equal shares must not differ by their rounding.
_ROUNDING = 1e-9
# Voxels that touch by a face, an edge or a corner belong to one object.
_CONNECTED = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class ClassCount:
    """What resampling leaves of a foreground class.

    Attributes:
        index: The class's index.
        before: Its voxels before.
        after: Its voxels after.
        objects: Its connected components (26 neighbours) before; None where nothing was resampled.
        left: How many of these have a voxel of the class left.
    """

    index: int
    before: int
    after: int
    objects: int | None = None
    left: int | None = None


def resample_counted(
    label: CaseLabels, shape: Size3, classes: int, method: str = "objects", unknown: bool = False
) -> tuple[Integer[Tensor, "d2 h2 w2"], tuple[ClassCount, ...]]:
    """Resample class indices, and count what is left of every class.

    Objects are found class by class, each in the box of the class, so memory does not grow with the number of classes.

    Args:
        label: Class indices (d, h, w), in host memory.
        shape: The new shape.
        classes: The number of classes, background included.
        method: A name of LABEL_RESAMPLING.
        unknown: Whether the index `classes` stands for voxels that nobody has annotated. They vote like a class, but
            their objects are neither kept nor counted.

    Returns:
        Class indices (d2, h2, w2), in the type of `label`, and the counts of the foreground classes that are there
        before.

    Raises:
        UserError: A class index is outside 0..classes-1, or the method is unknown.
    """
    keep, found = LABEL_RESAMPLING[method], resample_labels(label, shape, classes + unknown)
    before = counted(label.numpy(), classes)
    objects: dict[int, tuple[int, int]] = {}
    if tuple(label.shape) != shape:
        grid = _Grid(label.numpy(), found.numpy(), keep)
        boxes = ndimage.find_objects(label.numpy(), max_label=classes - 1)
        objects = {k: grid.treat(k, box) for k, box in enumerate(boxes, start=1) if box is not None}
    after = counted(found.numpy(), classes)
    counts = tuple(
        ClassCount(k, int(before[k]), int(after[k]), *objects.get(k, (None, None)))
        for k in range(1, classes)
        if before[k]
    )
    return found, counts


def counted(index: np.ndarray, count: int) -> np.ndarray:
    """Count the voxels of each of the indices 0, ..., count - 1; larger indices count as none.

    Plane by plane, because numpy counts in 64-bit copies.
    """
    total = np.zeros(count, np.int64)
    for plane in index:
        total += np.bincount(plane.ravel(), minlength=count)[:count]
    return total


@dataclass(eq=False)
class _Grid:
    """Class indices before and after resampling; those after are changed in place.

    Attributes:
        source: Class indices before.
        found: Class indices after.
        keep: Whether objects that would get lost are kept.
    """

    source: np.ndarray
    found: np.ndarray
    keep: bool
    best: np.ndarray | None = field(default=None, init=False)

    def treat(self, k: int, box: tuple[slice, ...]) -> tuple[int, int]:
        """Keep the objects of a class inside its box that are lost, and return how many objects there are and remain.

        Args:
            k: The class's index.
            box: The box around all of it.
        """
        components, count = ndimage.label(self.source[box] == k, _CONNECTED)
        sizes, held = counted(components, count + 1), self._held(components, k, box, count)
        left = held[1:] > 0
        if self.keep:
            lost = np.flatnonzero(held[1:] < LOST_BELOW * sizes[1:])
            parts = ndimage.find_objects(components) if len(lost) else []
            for n in lost.tolist():
                left[n] = self._fill(components[parts[n]] == n + 1, k, _inside(box, parts[n])) or left[n]
        return count, int(left.sum())

    def _held(self, components: np.ndarray, k: int, box: tuple[slice, ...], count: int) -> np.ndarray:
        """How many voxels of each object lie in voxels of its class after resampling."""
        i, j, h = (_containing(n, m)[part] for n, m, part in zip(self.source.shape, self.found.shape, box, strict=True))
        total = np.zeros(count + 1, np.int64)
        for plane, row in zip(components, i.tolist(), strict=True):
            total += np.bincount(plane[(self.found[row] == k)[np.ix_(j, h)]], minlength=count + 1)
        return total

    def _fill(self, mask: np.ndarray, k: int, box: tuple[slice, ...]) -> bool:
        """Give an object the voxels that it fills most; voxels that another lost object fills more stay with that."""
        shape = self.found.shape
        pairs = [_overlap(n, m, part) for n, m, part in zip(self.source.shape, shape, box, strict=True)]
        share = mask.astype(np.float64)
        for axis, (_, weights) in enumerate(pairs):
            share = np.moveaxis(np.tensordot(weights, share, (1, axis)), 0, axis)
        place = tuple(rows for rows, _ in pairs)
        if self.best is None:
            self.best = np.zeros(shape, np.float32)
        wins = (share >= FILLED * share.max() - _ROUNDING) & (share > self.best[place] + _ROUNDING)
        self.found[place][wins] = k
        self.best[place][wins] = share[wins]
        return bool(wins.any())


def _inside(box: tuple[slice, ...], part: tuple[slice, ...]) -> tuple[slice, ...]:
    """A part of a box, in the voxels of the whole."""
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, part, strict=True))


def _containing(n_in: int, n_out: int) -> np.ndarray:
    """For each voxel of an axis the voxel after resampling that holds its centre."""
    return (2 * np.arange(n_in) + 1) * n_out // (2 * n_in)


def _overlap(n_in: int, n_out: int, columns: slice) -> tuple[slice, np.ndarray]:
    """The voxels after resampling that some voxels of an axis reach, and how much of each of them these fill."""
    rows = slice(columns.start * n_out // n_in, -(-columns.stop * n_out // n_in))
    step = n_in / n_out
    low, voxel = np.arange(rows.start, rows.stop)[:, None] * step, np.arange(columns.start, columns.stop)
    return rows, np.clip(np.minimum(low + step, voxel + 1) - np.maximum(low, voxel), 0, None) / step


def labelled_box(array: np.ndarray, values: tuple[int, ...], start: Size3, stop: Size3) -> tuple[Size3, Size3, int]:
    """Extend a box so that it holds every labelled voxel.

    Args:
        array: A label (d, h, w) with the values of its file.
        values: The values of the foreground classes.
        start: The first voxel of the box.
        stop: The voxel after the last one.

    Returns:
        The extended box, and the number of labelled voxels outside of the given one.
    """
    low, high, outside = list(start), list(stop), 0
    inside = box_slices(start, stop)
    for place, plane in enumerate(array):
        mask = np.isin(plane, values)
        count = int(np.count_nonzero(mask))
        if start[0] <= place < stop[0]:
            count -= int(np.count_nonzero(mask[inside[1:]]))
        if not count:
            continue
        outside += count
        reached = (np.array([place]), np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0)))
        for axis, found in enumerate(reached):
            low[axis], high[axis] = min(low[axis], int(found[0])), max(high[axis], int(found[-1]) + 1)
    return (low[0], low[1], low[2]), (high[0], high[1], high[2]), outside


def as_index(index: np.ndarray) -> Tensor:
    """Return class indices as a tensor; torch computes little with uint16."""
    return torch.from_numpy(index if index.dtype == np.uint8 else index.astype(np.int32))
