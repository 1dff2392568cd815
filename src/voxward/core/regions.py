"""Nested tumour regions, either as one map of classes or as one mask per region.

BraTS scores the enhancing tumour (ET) inside the tumour core (TC) inside the whole tumour (WT). Its label files hold
what each region adds to the one inside it: the enhancing tumour itself, the rest of the core (necrotic and
non-enhancing), and the oedema around the core.
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
    """Regions from the innermost to the outermost, with the label of what each adds to those inside it.

    Attributes:
        names: The regions' names, innermost first.
        labels: The label of each region's own part: a voxel that is in region i and in no region before it has
            labels[i]. These are file values or class indices, whichever the maps hold.
        background: The label of voxels that are in no region.

    Raises:
        UserError: The labels are not one per name, or they do not differ from each other and from the background.
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
        """Turn a map of labels into one mask per region.

        Args:
            labels: Labels (..., d, h, w), array or tensor.

        Returns:
            Boolean masks (..., r, d, h, w), the innermost region first, of the same kind as `labels`.

        Raises:
            UserError: There are fewer than three axes, or values that are neither a region's label nor the background.
                Values on a GPU are not checked, because the check would have to wait for the GPU.
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
        """Turn one mask per region into a map of labels.

        Where the masks are not nested, the innermost region that holds a voxel decides its label, as if the regions
        around it held the voxel as well (Henry et al., BraTS 2020: "ET prediction was left untouched").

        Args:
            masks: Boolean masks (..., r, d, h, w), the innermost region first, array or tensor.

        Returns:
            Labels (..., d, h, w), uint8, of the same kind as `masks`.

        Raises:
            UserError: The number of masks is not that of the regions, or they are not boolean.
        """
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
