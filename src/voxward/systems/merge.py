"""Two label maps of one case become one: each model decides on the classes that it is better at.

This is the two-step merge of Henry et al., BraTS 2020 (section 2.6, Table 1): the enhancing and the necrotic tumour of
model A are kept, and model B decides between background and oedema.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxward.core.errors import UserError
from voxward.core.types import VoxelArray
from voxward.data.volume_file import volume_stem, volumes_among


@dataclass(frozen=True)
class MergeRule:
    """The classes that each of two models owns; a class is a value in the label maps.

    What the first model says of its own classes is final. Where the first model says background or a class of the
    second, and the second model says background or a class of its own as well, the second is believed. Where the second
    model says a class that it does not own, it has no opinion, and the first model's value stands.

    Attributes:
        first: The classes that the first model owns.
        second: The classes that the second model owns.
        background: The value of the background, which neither model owns.

    Raises:
        UserError: Both models own a class, or one owns the background.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    background: int = 0

    def __post_init__(self) -> None:
        both = sorted(set(self.first) & set(self.second))
        if both:
            raise UserError(f"a class has one owner, but both first and second own {both}")
        if self.background in (*self.first, *self.second):
            raise UserError(f"first and second must not own the background {self.background}")

    @property
    def classes(self) -> tuple[int, ...]:
        """Return all legal values, in ascending order."""
        return tuple(sorted({self.background, *self.first, *self.second}))


BRATS_2020 = MergeRule(first=(1, 4), second=(2,))
"""Table 1 of the paper: pipeline A first, B second; 1 necrotic core, 2 oedema, 4 enhancing tumour."""


def merge(first: VoxelArray, second: VoxelArray, rule: MergeRule = BRATS_2020) -> VoxelArray:
    """Merge two label maps of one case by a rule.

    Args:
        first: The label map of the first model, of any shape.
        second: The label map of the second model, of the same shape.
        rule: Which model owns which class.

    Returns:
        A new label map with the number type of `first`.

    Raises:
        UserError: The shapes differ, or a map holds a value that is not one of the rule's.
    """
    if first.shape != second.shape:
        raise UserError(f"first and second must have one shape, got {first.shape} and {second.shape}")
    for name, labels in (("first", first), ("second", second)):
        _check(name, labels, rule.classes)
    shared = (rule.background, *rule.second)
    merged: VoxelArray = np.where(np.isin(first, shared) & np.isin(second, shared), second.astype(first.dtype), first)
    return merged


def _check(name: str, labels: VoxelArray, legal: Collection[int]) -> None:
    unknown = sorted(set(np.unique(labels).tolist()) - set(legal))
    if unknown:
        raise UserError(f"{name} must hold the classes {sorted(legal)}, got {unknown[:5]} as well")


def pairs_of(first: Path, second: Path, leaving_out: Collection[str] = ()) -> dict[str, tuple[Path, Path]]:
    """Find the two segmentations of every case in two folders.

    Args:
        first: The folder with the segmentations of the first model.
        second: The folder with those of the second model, under the same names.
        leaving_out: The ids of cases that are not looked for.

    Returns:
        For each case id, the file in `first` and the file in `second`.

    Raises:
        UserError: The folders do not hold the same cases, hold none, or one holds two segmentations of a case.
        FileNotFoundError: A folder is missing.
    """
    found = [{id: path for id, path in _files(folder).items() if id not in leaving_out} for folder in (first, second)]
    lacking = sorted({*found[0]} ^ {*found[1]})
    if lacking:
        raise UserError(f"{first} and {second} must hold the same cases; only one has {', '.join(lacking[:5])}")
    if not found[0] and not leaving_out:
        raise UserError(f"{first} holds no segmentation")
    return {id: (path, found[1][id]) for id, path in found[0].items()}


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    volumes = volumes_among(folder.iterdir())
    found = {volume_stem(path): path for path in volumes}
    twice = [path.name for path in volumes if found[volume_stem(path)] != path]
    if twice:
        raise UserError(f"{folder} holds two segmentations of a case, e.g. {twice[0]}: keep one")
    return found
