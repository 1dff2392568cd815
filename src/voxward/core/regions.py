"""Regions that may overlap, either as one map of labels or as one mask per region.

BraTS scores the enhancing tumour (ET) inside the tumour core (TC) inside the whole tumour (WT), and since 2024 the
resection cavity (RC) beside them. Its label files hold one value per voxel: the enhancing tumour itself, the rest of
the core, the oedema around the core, the cavity. A region is any set of such labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from voxward.core.devices import kind_of
from voxward.core.errors import UserError

Maps = TypeVar("Maps", np.ndarray, Tensor)
# The axis of the regions, before the three spatial ones.
_AXIS = -4


@dataclass(frozen=True)
class RegionMaps:
    """Regions in order of precedence, with the labels in each and the label that is written for it.

    Attributes:
        names: The regions' names.
        labels: The label that a voxel gets if it is in region i and in no region before it; one of parts[i]. These are
            file values or class indices, whichever the maps hold.
        parts: All labels whose voxels are in region i.
        background: The label of voxels that are in no region.

    Raises:
        UserError: There is not one label and one part per name, the labels do not differ from each other and from the
            background, or a label is not in its own part.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]
    background: int = 0

    @classmethod
    def nested(cls, names: tuple[str, ...], labels: tuple[int, ...], background: int = 0) -> RegionMaps:
        """Return nested regions, the innermost first, each with one label more than the one inside it.

        Args:
            names: The regions' names, innermost first.
            labels: The label of each region's own part, which the regions inside it lack.
            background: The label of voxels that are in no region.
        """
        parts = accumulate((label,) for label in labels)
        return cls(names, labels, tuple(tuple(sorted(part)) for part in parts), background)

    def __post_init__(self) -> None:
        if not self.names or not len(self.names) == len(self.labels) == len(self.parts):
            raise UserError(f"labels must be one per region {self.names}, got {self.labels}")
        if len({*self.labels, self.background}) <= len(self.labels):
            raise UserError(f"labels must differ, also from the background {self.background}, got {self.labels}")
        for name, label, part in zip(self.names, self.labels, self.parts, strict=True):
            if label not in part or self.background in part:
                raise UserError(
                    f"region {name!r} is written as {label}: that must be one of its values {list(part)}, and the "
                    f"background {self.background} must not"
                )

    @property
    def known(self) -> tuple[int, ...]:
        """Return the labels of all regions, each once."""
        return tuple(dict.fromkeys(label for part in self.parts for label in part))

    def to_masks(self, labels: Maps) -> Maps:
        """Turn a map of labels into one mask per region.

        Args:
            labels: Labels (..., d, h, w), array or tensor.

        Returns:
            Boolean masks (..., r, d, h, w) of the same kind as `labels`.

        Raises:
            UserError: There are fewer than three axes, or values that are neither a region's label nor the background.
                Values on a GPU are not checked, because the check would have to wait for the GPU.
        """
        if labels.ndim < 3:
            raise UserError(f"labels must have three spatial axes, got shape {tuple(labels.shape)}")
        masks = [labels == part[0] for part in self.parts]
        declared = labels == self.background
        for label in self.known:
            own = labels == label
            declared |= own
            for mask, part in zip(masks, self.parts, strict=True):
                if label in part[1:]:
                    mask |= own
        if isinstance(labels, np.ndarray) or kind_of(labels).host:
            self._check_values(labels, declared)
        return _stack(masks)

    def to_labels(self, masks: Maps) -> Maps:
        """Turn one mask per region into a map of labels.

        The first region that holds a voxel decides its label, whatever the others say. For nested regions that is the
        innermost (Henry et al., BraTS 2020: "ET prediction was left untouched").

        Args:
            masks: Boolean masks (..., r, d, h, w), array or tensor.

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
        for n in reversed(range(count)):  # the region of the highest precedence is written last
            labels[masks[..., n, :, :, :]] = self.labels[n]
        return labels

    def holders(self, place: int) -> tuple[bool, ...]:
        """Return, for each region, whether a voxel for which that region's label is written is in one region.

        Args:
            place: The place of that one region in `names`.
        """
        return tuple(label in self.parts[place] for label in self.labels)

    def written(self, label: int) -> int:
        """Return the label that is written for a voxel that is in exactly the regions of a label.

        Args:
            label: The label of the ground truth. What is written differs from it where no region stands for the label.
        """
        return next((own for own, part in zip(self.labels, self.parts, strict=True) if label in part), self.background)

    def _check_values(self, labels: np.ndarray | Tensor, declared: np.ndarray | Tensor) -> None:
        undeclared = ~declared
        if undeclared.any():
            found = sorted(set(labels[undeclared].ravel().tolist()))
            legal = sorted((self.background, *self.known))
            raise UserError(f"labels must hold {legal}, got {found[:5]} as well")


def _stack(masks: list[Maps]) -> Maps:
    if isinstance(masks[0], Tensor):
        return torch.stack(masks, _AXIS)
    return np.stack(masks, _AXIS)


def _filled(like: Maps, value: int) -> Maps:
    if isinstance(like, Tensor):
        return torch.full_like(like, value, dtype=torch.uint8)
    return np.full_like(like, value, dtype=np.uint8)
