"""The classes and regions of a dataset, and the voxel values that stand for them in its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from voxward.core.devices import kind_of
from voxward.core.errors import UserError
from voxward.core.regions import RegionMaps

IGNORED = 255
"""The class index of unannotated voxels in maps of the ground truth, where `LabelSet.ignore` is set."""

UNANNOTATED = -1
"""What stands for unannotated voxels in what `LabelSet.target` returns, for all regions alike."""

# How many undeclared values an error lists; a file that is not a label at all may hold thousands.
_SHOWN = 20
_ORDER = (
    "Regions of another form (disjoint, overlapping, several values at once) need regions_class_order: one of its "
    "values for each region, in the order of the regions, where later ones are written over earlier ones"
)


def largest(logits: Tensor) -> Tensor:
    """Return the class of the largest logit of each voxel; of equal ones, the lowest class.

    Args:
        logits: Logits (..., k, d, h, w).

    Returns:
        Class indices (..., d, h, w), uint8, or int32 beyond 256 classes.
    """
    classes = logits.unbind(-4)
    kind = torch.uint8 if len(classes) <= 256 else torch.int32
    if not kind_of(logits).host:
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
    """Several classes that are found as one thing, such as the whole tumour.

    Attributes:
        name: The region's name.
        values: The file values of the voxels in the region.
        written: The file value that a voxel gets whose first region (see `LabelSet.regions`) is this one. None in
            nested regions: the value that the region inside lacks.
    """

    name: str
    values: tuple[int, ...]
    written: int | None = None


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset and the voxel values that stand for them in its label files.

    Inside voxward a class is its index (0 is the background); files hold `values`. With regions, a network learns these
    (one sigmoid each) instead of the classes, and they are what is scored, attacked and used to select a checkpoint;
    files and prepared labels hold classes all the same.

    Attributes:
        names: The name of each class, the background first.
        values: The file value of each class; the background's is 0.
        regions: The regions in order of precedence: the first that holds a voxel decides which class is written for it.
            Together they hold all foreground classes. Without `Region.written` they are nested, the innermost first,
            each with one class more than the one before (BraTS: ET in TC in WT). Empty if the network learns classes.
        ignore: The file value of voxels that nobody has annotated, or None. They are no class: a network has no output
            for them, and they count in no loss, metric or attack. Class maps of the ground truth hold `IGNORED` there.

    Raises:
        UserError: Names and values differ in number or repeat, there is no foreground class, the first value is not 0,
            the regions are not as described, or `ignore` is the value of a class.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    regions: tuple[Region, ...] = ()
    ignore: int | None = None

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
        if self.ignore is not None and (self.ignore in self.values or self.count > IGNORED):
            raise UserError(
                f"the ignore label needs a value that is no class's, and at most {IGNORED} classes; got {self.ignore} "
                f"beside the values {self.values}"
            )
        self._check_regions()

    def _check_regions(self) -> None:
        if not self.regions:
            return
        given = {region.name: list(region.values) for region in self.regions}
        if len(given) < len(self.regions):
            raise UserError(f"region names must differ, got {tuple(region.name for region in self.regions)}")
        if all(region.written is None for region in self.regions):
            if not _is_chain(self.regions, self.values[1:]):
                raise UserError(
                    "regions must be nested, each with one label value more than the one inside it, the outermost with "
                    f"all of {list(self.values[1:])}, got {given}. {_ORDER}"
                )
            return
        held = {value for region in self.regions for value in region.values}
        if held != set(self.values[1:]):
            raise UserError(f"each of the label values {list(self.values[1:])} must be in a region, got {given}")
        maps = self.region_maps
        for place, name in enumerate(maps.names):
            if not any(maps.written(label) in maps.parts[place] for label in maps.parts[place]):
                raise UserError(
                    f"region {name!r} is written over wholly: in regions_class_order later regions are written over "
                    f"earlier ones, so a region comes before those inside it; got {given}"
                )

    @property
    def head(self) -> Literal["softmax", "regions"]:
        """Return how a network's outputs are read: `softmax` (one class per voxel) or `regions` (one sigmoid each)."""
        return "regions" if self.regions else "softmax"

    @property
    def outputs(self) -> int:
        """Return how many output channels a network has: one per class, the background included, or one per region."""
        return len(self.regions) or self.count

    @property
    def scored(self) -> tuple[str, ...]:
        """Return the names of what is scored: the regions, or the foreground classes if there are no regions."""
        return tuple(region.name for region in self.regions) or self.foreground

    @property
    def region_maps(self) -> RegionMaps:
        """Return the regions in terms of class indices.

        Raises:
            UserError: These labels have no regions, or a region is written as a value that is not in it.
        """
        if not self.regions:
            raise UserError(f"the labels {self.names} have no regions")
        parts = tuple(tuple(sorted(map(self.values.index, region.values))) for region in self.regions)
        if self.regions[0].written is None:
            added = [set(large) - set(small) for small, large in pairwise([(), *parts])]
            return RegionMaps.nested(self.scored, tuple(next(iter(label)) for label in added))
        written = tuple(-1 if r.written is None else self.values.index(r.written) for r in self.regions)
        return RegionMaps(self.scored, written, parts)

    @property
    def rewritten(self) -> dict[int, int]:
        """Return the file values that regions cannot give back, each with the value that is written in its place.

        Two regions that overlap, for example, can only be written as one of them where no third region stands for the
        voxels that are in both. The regions of a voxel then differ before and after a file.
        """
        if not self.regions:
            return {}
        maps = self.region_maps
        pairs = {label: maps.written(label) for label in maps.known}
        changed = {a: b for a, b in pairs.items() if any((a in part) != (b in part) for part in maps.parts)}
        return {self.values[a]: self.values[b] for a, b in changed.items()}

    @property
    def classes(self) -> LabelSet:
        """Return the same classes without regions, and without the ignore label, which is no class."""
        return replace(self, regions=(), ignore=None)

    @property
    def predicted(self) -> LabelSet:
        """Return the same classes and regions without the ignore label, which nothing predicts."""
        return replace(self, ignore=None)

    def ignoring(self, ignore: int | None) -> LabelSet:
        """Return the same classes and regions for files in which a value says "not annotated"; None: as declared here.

        Args:
            ignore: The value.
        """
        return self if ignore is None else replace(self, ignore=ignore)

    def with_ignore(self, ignore: int | None) -> LabelSet:
        """Return the same labels with a file value that says "not annotated".

        Args:
            ignore: The value. If it is that of a class, this is then no class any more. None keeps what is declared.

        Raises:
            UserError: It is the background's value, the only class's, or in a region.
        """
        if ignore is None or ignore == self.ignore:
            return self
        if any(ignore in region.values for region in self.regions):
            raise UserError(f"the ignore label {ignore} must not be in a region, got {self.regions}")
        kept = [(name, v) for name, v in zip(self.names, self.values, strict=True) if v != ignore or v == 0]
        names, values = zip(*kept, strict=True)
        return replace(self, names=names, values=values, ignore=ignore)

    def with_regions(self, regions: Mapping[str, Sequence[int]] | None, order: Sequence[int] | None = None) -> LabelSet:
        """Return the same classes with other regions.

        Args:
            regions: Region names with the file values in each. None keeps the present regions, and an empty mapping
                removes them.
            order: nnU-Net's regions_class_order: for each region, as declared, the file value that is written where it
                is found; later ones are written over earlier ones. None for nested regions, in any order.

        Raises:
            UserError: The regions are not as `LabelSet` describes, or `order` does not fit them.
        """
        if regions is None:
            return self
        ordered = sorted(regions.items(), key=lambda item: len(item[1]))
        nested = tuple(Region(name, tuple(values)) for name, values in ordered)
        if order is None or not regions:
            return replace(self, regions=nested)
        _check_order(regions, order, self.values[1:])
        declared = [
            Region(name, tuple(values), label) for (name, values), label in zip(regions.items(), order, strict=True)
        ]
        general = replace(self, regions=tuple(reversed(declared)))
        if _is_chain(nested, self.values[1:]):
            # One form for nested regions, so that two ways to declare the same labels are equal.
            plain = replace(self, regions=nested)
            if plain.region_maps == general.region_maps:
                return plain
        return general

    def target(self, index: Tensor) -> Tensor:
        """Turn class indices into the form in which attacks and scores compare them with a network's outputs.

        Args:
            index: Class indices (..., d, h, w).

        Returns:
            The class indices themselves, or with regions 0 and 1 for each region (..., r, d, h, w); int64. With an
            ignore label, unannotated voxels are `UNANNOTATED`.
        """
        if self.ignore is not None:
            known, unknown = self.predicted, index == IGNORED
            found = known.target(index.masked_fill(unknown, 0))
            return found.masked_fill_(unknown.unsqueeze(-4) if self.regions else unknown, UNANNOTATED)
        return self.region_maps.to_masks(index).long() if self.regions else index.long()

    def read(self, logits: Tensor) -> Tensor:
        """Turn a network's logits into class indices.

        Without regions the class of the largest logit wins. With regions, a voxel is in each region whose logit is
        above 0, and the first of these (of nested regions the innermost) decides its class.

        Args:
            logits: Logits (..., k, d, h, w) of classes or regions.

        Returns:
            Class indices (..., d, h, w), uint8, or int32 beyond 256 classes.
        """
        if self.regions:
            return self.region_maps.to_labels(logits > 0)
        return largest(logits)

    @property
    def count(self) -> int:
        """Return the number of classes, the background included."""
        return len(self.names)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Return the names of the classes without the background."""
        return self.names[1:]

    @property
    def legal(self) -> tuple[int, ...]:
        """Return the values that a label file may hold: those of the classes, and that of unannotated voxels."""
        return self.values if self.ignore is None else (*self.values, self.ignore)

    def ignored(self, index: np.ndarray) -> np.ndarray | None:
        """Return which voxels of a class map are not annotated.

        Args:
            index: Class indices of the ground truth, of any shape.

        Returns:
            Booleans of the same shape; None where every voxel is annotated.
        """
        if self.ignore is None:
            return None
        unknown: np.ndarray = index == IGNORED
        return unknown if unknown.any() else None

    def to_index(self, array: np.ndarray) -> np.ndarray:
        """Turn file values into class indices.

        The work is done plane by plane along the first axis, because 64-bit places of a whole volume would take many
        times the label's memory.

        Args:
            array: File values of any shape.

        Returns:
            Class indices of the same shape, uint8, or uint16 beyond 256 classes, in C order; `IGNORED` where a voxel
            has the value `ignore`.

        Raises:
            UserError: Some voxel values are neither among `values` nor `ignore`; the message lists them.
        """
        order = np.argsort(self.legal)
        known = np.asarray(self.legal)[order]
        classes = np.where(order < self.count, order, IGNORED).astype(np.uint8 if self.count <= 256 else np.uint16)
        index = np.empty(array.shape, classes.dtype)
        undeclared: set[int] = set()
        planes = zip(array, index, strict=True) if array.ndim > 2 else [(array, index)]
        for values, out in planes:
            place = np.clip(np.searchsorted(known, values), 0, len(known) - 1)
            wrong = known[place] != values
            undeclared.update(np.unique(values[wrong]).tolist())
            out[...] = classes[place]
        if undeclared:
            raise UserError(f"label values {_listed(undeclared)} are not declared; legal: {list(self.legal)}")
        return index

    def to_values(self, index: np.ndarray) -> np.ndarray:
        """Turn class indices into file values.

        Args:
            index: Class indices of any shape.

        Returns:
            File values of the same shape, in the smallest integer type that holds all of `values`.
        """
        dtype = np.result_type(*(np.min_scalar_type(value) for value in self.values))
        values: np.ndarray = np.asarray(self.values, dtype=dtype)[index]
        return values


def _listed(values: set[int]) -> str:
    more = len(values) - _SHOWN
    return f"{sorted(values)[:_SHOWN]}" + (f" and {more} more" if more > 0 else "")


def _is_chain(regions: Sequence[Region], foreground: Sequence[int]) -> bool:
    chain = [set(), *(set(region.values) for region in regions)]
    nested = all(small < large and len(large) == len(small) + 1 for small, large in pairwise(chain))
    return nested and chain[-1] == set(foreground)


def _check_order(regions: Mapping[str, Sequence[int]], order: Sequence[int], foreground: Sequence[int]) -> None:
    given = {name: list(values) for name, values in regions.items()}
    if len(order) != len(regions):
        raise UserError(
            f"regions_class_order must hold one value for each of the {len(regions)} regions {given}, got {list(order)}"
        )
    for (name, values), written in zip(regions.items(), order, strict=True):
        undeclared = sorted(set(values) - set(foreground))
        if undeclared or not values or len(set(values)) < len(values):
            raise UserError(
                f"region {name!r} must hold some of the label values {list(foreground)}, each once, got {list(values)}"
            )
        if written not in values:
            raise UserError(
                f"regions_class_order writes region {name!r} as {written}, not as one of its values {list(values)}"
            )
    if len(set(order)) < len(order):
        raise UserError(f"regions_class_order must write a value of its own for each region, got {list(order)}")
