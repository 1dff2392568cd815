"""Nested tumour regions: one map of classes, or one mask per region, each region inside the next.

BraTS scores the enhancing tumour (ET) inside the tumour core (TC) inside the whole tumour (WT); its label files hold
what each adds to the one before: the enhancing tumour itself, the rest of the core (necrotic and non-enhancing), and
the oedema around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from voxward.core.errors import UserError

Maps = TypeVar("Maps", np.ndarray, Tensor)
Conflict = Literal["inner", "outer", "painted"]
# The axis of the regions, before the three spatial ones.
_AXIS = -4


@dataclass(frozen=True)
class NestedRegions:
    """Regions from the innermost to the outermost, and the label of what each adds to those inside it.

    names: of the regions. labels: a voxel of region i that is in no region before i has labels[i]; file values or
    class indices, whichever the maps hold. Raises ValueError for labels that are not one per name, differ, and differ
    from the background.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    background: int = 0

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.labels):
            raise UserError(f"labels must be one per region {self.names}, got {self.labels}")
        if len({*self.labels, self.background}) <= len(self.labels):
            raise UserError(f"labels must differ, also from the background {self.background}, got {self.labels}")

    def to_masks(self, labels: Maps) -> Maps:
        """(..., d, h, w) labels -> boolean masks (..., r, d, h, w), innermost region first; array or tensor.

        Raises ValueError for fewer than three axes, and for values that are neither a region's nor the background
        (not looked for on a GPU, which would have to be waited for).
        """
        if labels.ndim < 3:
            raise UserError(f"labels must have three spatial axes, got shape {tuple(labels.shape)}")
        mask, masks = labels == self.labels[0], []
        for label in self.labels:
            mask = mask | (labels == label)
            masks.append(mask)
        if not getattr(labels, "is_cuda", False):
            self._check_values(labels, mask)
        return _stack(masks)

    def to_labels(self, masks: Maps, conflict: Conflict = "inner") -> Maps:
        """Boolean masks (..., r, d, h, w), innermost region first -> labels (..., d, h, w), uint8.

        conflict: what becomes of a voxel that is in a region and not in one around it.

        - "inner": the innermost region that holds it wins, as if those around it held it, too (the paper: "ET
          prediction was left untouched").
        - "outer": the regions around it win: it must be in all of them, or it is left out of the inner one.
        - "painted": as in the authors' code, which writes what each region adds to the one inside it in that order,
          later over earlier: ET and WT without TC is oedema, but ET without WT stays ET.

        Where the masks are nested all three agree. Raises ValueError for another rule, another number of masks, and
        masks that are not boolean.
        """
        if conflict not in _PAINT:
            raise UserError(f"conflict must be one of {', '.join(_PAINT)}, got {conflict!r}")
        count = len(self.names)
        if masks.ndim < 4 or masks.shape[_AXIS] != count:
            raise UserError(f"masks must be (..., {count}, d, h, w), got shape {tuple(masks.shape)}")
        if str(masks.dtype).removeprefix("torch.") != "bool":
            raise UserError(f"masks must be boolean (threshold the probabilities), got {masks.dtype}")
        regions = [masks[..., n, :, :, :] for n in range(count)]
        labels = _filled(regions[0], self.background)
        for label, mask in _PAINT[conflict](list(zip(self.labels, regions, strict=True))):
            labels[mask] = label
        return labels

    def _check_values(self, labels: np.ndarray | Tensor, declared: np.ndarray | Tensor) -> None:
        undeclared = ~(declared | (labels == self.background))
        if undeclared.any():
            found = sorted(set(labels[undeclared].ravel().tolist()))
            legal = sorted((self.background, *self.labels))
            raise UserError(f"labels must hold {legal}, got {found[:5]} as well")


BRATS_2020 = NestedRegions(("ET", "TC", "WT"), (4, 1, 2))
"""Labels of the challenges to 2021: 1 necrotic and non-enhancing core, 2 oedema, 4 enhancing tumour."""
BRATS_2023 = NestedRegions(("ET", "TC", "WT"), (3, 1, 2))
"""Labels since 2023, where 3 is the enhancing tumour; also the class indices of labels that are 0, 1, 2, 4 in files."""

Regions = list[tuple[int, Maps]]


def _inner(regions: Regions[Maps]) -> Regions[Maps]:
    return regions[::-1]


def _outer(regions: Regions[Maps]) -> Regions[Maps]:
    kept: Regions[Maps] = []
    for label, mask in reversed(regions):
        kept.append((label, mask & kept[-1][1] if kept else mask))
    return kept


def _painted(regions: Regions[Maps]) -> Regions[Maps]:
    painted = regions[:1]
    for (_, inside), (label, mask) in pairwise(regions):
        painted.append((label, mask & ~inside))
    return painted


# Per rule the masks in the order in which they are written, later over earlier.
_PAINT: dict[str, Callable[..., list[tuple[int, np.ndarray | Tensor]]]] = {
    "inner": _inner,
    "outer": _outer,
    "painted": _painted,
}


def _stack(masks: list[Maps]) -> Maps:
    if isinstance(masks[0], Tensor):
        return torch.stack(masks, _AXIS)
    return np.stack(masks, _AXIS)


def _filled(like: Maps, value: int) -> Maps:
    if isinstance(like, Tensor):
        return torch.full_like(like, value, dtype=torch.uint8)
    return np.full_like(like, value, dtype=np.uint8)
