"""Nested tumour regions: one map of classes, or one mask per region, each region inside the next.

BraTS scores the enhancing tumour (ET) inside the tumour core (TC) inside the whole tumour (WT); its label files hold
what each adds to the one before: the enhancing tumour itself, the rest of the core (necrotic and non-enhancing), and
the oedema around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from voxward.core.errors import UserError

Maps = TypeVar("Maps", np.ndarray, Tensor)
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

    def to_labels(self, masks: Maps) -> Maps:
        """X."""
        count = len(self.names)
        if masks.ndim < 4 or masks.shape[_AXIS] != count:
            raise UserError(f"masks must be (..., {count}, d, h, w), got shape {tuple(masks.shape)}")
        if str(masks.dtype).removeprefix("torch.") != "bool":
            raise UserError(f"masks must be boolean (threshold the probabilities), got {masks.dtype}")
        labels = _filled(masks[..., 0, :, :, :], self.background)
        for n in reversed(range(count)):  # the innermost region is written last
            labels[masks[..., n, :, :, :]] = self.labels[n]
        return labels

    def _check_values(self, labels: np.ndarray | Tensor, declared: np.ndarray | Tensor) -> None:
        undeclared = ~(declared | (labels == self.background))
        if undeclared.any():
            found = sorted(set(labels[undeclared].ravel().tolist()))
            legal = sorted((self.background, *self.labels))
            raise UserError(f"labels must hold {legal}, got {found[:5]} as well")


def _stack(masks: list[Maps]) -> Maps:
    if isinstance(masks[0], Tensor):
        return torch.stack(masks, _AXIS)
    return np.stack(masks, _AXIS)


def _filled(like: Maps, value: int) -> Maps:
    if isinstance(like, Tensor):
        return torch.full_like(like, value, dtype=torch.uint8)
    return np.full_like(like, value, dtype=np.uint8)
