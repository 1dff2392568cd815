"""What the voxels of a label may be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.regions import NestedRegions

# Undeclared values that an error lists; a file that is no label at all may hold thousands.
_SHOWN = 20


def largest(logits: Tensor) -> Tensor:
    """Logits (..., k, d, h, w) -> the class of the largest one, of equal ones the lowest; uint8 (int32 beyond 256)."""
    classes = logits.unbind(-4)
    kind = torch.uint8 if len(classes) <= 256 else torch.int32
    if logits.is_cuda:
        return logits.max(-4).indices.to(kind)
    # A CPU reduces a leading axis slowly; class by class it is two to three times as fast.
    top = classes[0].clone()
    for scores in classes[1:]:
        torch.maximum(top, scores, out=top)
    index = torch.zeros(top.shape, dtype=kind)
    for n in reversed(range(len(classes))):
        index.masked_fill_(classes[n] == top, n)
    return index


@dataclass(frozen=True)
class Region:
    """Several classes as one thing to find: its name and the file values of the voxels in it."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class LabelSet:
    """Class names and the voxel values that stand for them in label files; the first is the background.

    Inside voxward a class is its index (0 = background); files carry `values`. regions: nested, innermost first, each
    one class more than the one before, the last all foreground classes (BraTS: ET in TC in WT). Where there are any,
    networks learn them (one sigmoid each) instead of the classes, and they are what is scored, attacked and selected
    by; files and prepared labels hold classes all the same. Raises ValueError for anything else.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.values):
            raise UserError(
                f"labels need one value per name, got {len(self.names)} names and {len(self.values)} values"
            )
        if len(self.names) < 2:
            raise UserError("labels need a background and at least one foreground class")
        if len(set(self.values)) < len(self.values):
            raise UserError(f"label values must differ, got {self.values}")
        if len(set(self.names)) < len(self.names):
            raise UserError(f"label names must differ, got {self.names}")
        if self.values[0] != 0:
            raise UserError(f"the first label is the background and must have value 0, got {self.values[0]}")
        self._check_regions()

    def _check_regions(self) -> None:
        if not self.regions:
            return
        chain = [set(), *(set(region.values) for region in self.regions)]
        nested = all(small < large and len(large) == len(small) + 1 for small, large in pairwise(chain))
        if not nested or chain[-1] != set(self.values[1:]):
            given = {region.name: list(region.values) for region in self.regions}
            raise UserError(
                f"regions must be nested, each with one label value more than the one inside it, the outermost with "
                f"all of {list(self.values[1:])}, got {given}"
            )
        if len({region.name for region in self.regions}) < len(self.regions):
            raise UserError(f"region names must differ, got {tuple(region.name for region in self.regions)}")

    @property
    def head(self) -> Literal["softmax", "regions"]:
        """How a network's outputs are read: classes that exclude each other, or one sigmoid per region."""
        return "regions" if self.regions else "softmax"

    @property
    def outputs(self) -> int:
        """Output channels of a network: one per class, the background included, or one per region."""
        return len(self.regions) or self.count

    @property
    def scored(self) -> tuple[str, ...]:
        """What is scored: the regions, or without any the foreground classes."""
        return tuple(region.name for region in self.regions) or self.foreground

    @property
    def nested(self) -> NestedRegions:
        """The regions over class indices. Raises ValueError where there are none."""
        if not self.regions:
            raise UserError(f"the labels {self.names} have no regions")
        added = [
            next(iter(set(large) - set(small)))
            for small, large in pairwise([(), *(region.values for region in self.regions)])
        ]
        return NestedRegions(self.scored, tuple(self.values.index(value) for value in added))

    @property
    def classes(self) -> LabelSet:
        """The same classes without regions."""
        return replace(self, regions=())

    def with_regions(self, regions: Mapping[str, Sequence[int]] | None) -> LabelSet:
        """The same classes with these regions (name: file values), in any order; None leaves them, {} has none."""
        if regions is None:
            return self
        ordered = sorted(regions.items(), key=lambda item: len(item[1]))
        return replace(self, regions=tuple(Region(name, tuple(values)) for name, values in ordered))

    def target(self, index: Tensor) -> Tensor:
        """Class indices (..., d, h, w) as attacks and scores compare them with a network's outputs.

        The same, or with regions 0 and 1 for each (..., r, d, h, w); int64.
        """
        return self.nested.to_masks(index).long() if self.regions else index.long()

    def read(self, logits: Tensor) -> Tensor:
        """Logits (..., k, d, h, w) -> class indices (..., d, h, w), uint8 (int32 beyond 256 classes).

        The largest class; of regions those above 0, the innermost one that holds a voxel deciding its class.
        """
        if self.regions:
            return self.nested.to_labels(logits > 0)
        return largest(logits)

    @property
    def count(self) -> int:
        """Number of classes, the background included."""
        return len(self.names)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names without the background."""
        return self.names[1:]

    def to_index(self, array: np.ndarray) -> np.ndarray:
        """File values -> class indices, uint8 (uint16 beyond 256 classes), in C order.

        Plane by plane along the first axis: a whole volume of 64-bit places would take many times the label's memory.
        Raises ValueError naming the voxel values that are not among `values`.
        """
        order = np.argsort(self.values)
        known = np.asarray(self.values)[order]
        classes = order.astype(np.uint8 if self.count <= 256 else np.uint16)
        index = np.empty(array.shape, classes.dtype)
        undeclared: set[int] = set()
        planes = zip(array, index, strict=True) if array.ndim > 2 else [(array, index)]
        for values, out in planes:
            place = np.clip(np.searchsorted(known, values), 0, len(known) - 1)
            wrong = known[place] != values
            undeclared.update(np.unique(values[wrong]).tolist())
            out[...] = classes[place]
        if undeclared:
            raise UserError(f"label values {_listed(undeclared)} are not declared; legal: {list(self.values)}")
        return index

    def to_values(self, index: np.ndarray) -> np.ndarray:
        """Class indices -> file values, in the smallest integer type that holds them all."""
        dtype = np.result_type(*(np.min_scalar_type(value) for value in self.values))
        values: np.ndarray = np.asarray(self.values, dtype=dtype)[index]
        return values


def _listed(values: set[int]) -> str:
    more = len(values) - _SHOWN
    return f"{sorted(values)[:_SHOWN]}" + (f" and {more} more" if more > 0 else "")
