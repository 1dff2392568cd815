"""Two label maps of one case become one: each model is believed on the classes it is better at.

The two-step merge of Henry et al., BraTS 2020 (section 2.6, Table 1): model A keeps its enhancing and its necrotic
tumour, and between background and oedema model B decides.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from voxward.core.errors import UserError
from voxward.core.types import VoxelArray


@dataclass(frozen=True)
class MergeRule:
    """Which of two models owns which class (values in their label maps); what neither owns is background.

    first: what the first model says of these classes is final. second: where the first model says background or one
    of these, and the second as well, the second is believed; where the second says a class that it does not own, it
    has no opinion, and the first's stands. Raises ValueError for a class that both own, and for the background owned.
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
        """All legal values, ascending."""
        return tuple(sorted({self.background, *self.first, *self.second}))


BRATS_2020 = MergeRule(first=(1, 4), second=(2,))
"""Table 1 of the paper: pipeline A first, B second; 1 necrotic core, 2 oedema, 4 enhancing tumour."""


def merge(first: VoxelArray, second: VoxelArray, rule: MergeRule = BRATS_2020) -> VoxelArray:
    """Merge two label maps of one shape into a new one of the first one's type.

    Raises ValueError for different shapes, and for values that are not the rule's.
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
