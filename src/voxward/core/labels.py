"""What the voxels of a label may be called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelSet:
    """Class names and the voxel values that stand for them in label files; the first is the background.

    Inside voxward a class is its index (0 = background); files carry `values`.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.values):
            raise ValueError(
                f"labels need one value per name, got {len(self.names)} names and {len(self.values)} values"
            )
        if len(self.names) < 2:
            raise ValueError("labels need a background and at least one foreground class")
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"label values must differ, got {self.values}")
        if self.values[0] != 0:
            raise ValueError(f"the first label is the background and must have value 0, got {self.values[0]}")

    @property
    def count(self) -> int:
        """Number of classes, the background included."""
        return len(self.names)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names without the background."""
        return self.names[1:]

    def to_index(self, array: np.ndarray) -> np.ndarray:
        """File values -> class indices, uint8 (uint16 beyond 256 classes).

        Raises ValueError naming any voxel value that is not one of `values`.
        """
        order = np.argsort(self.values)
        known = np.asarray(self.values)[order]
        place = np.clip(np.searchsorted(known, array), 0, len(known) - 1)
        wrong = known[place] != array
        if wrong.any():
            raise ValueError(
                f"label values {np.unique(array[wrong])[:5].tolist()} are not declared; legal: {list(self.values)}"
            )
        return order[place].astype(np.uint8 if self.count <= 256 else np.uint16)

    def to_values(self, index: np.ndarray) -> np.ndarray:
        """Class indices -> file values, in the smallest integer type that holds them all."""
        dtype = np.result_type(*(np.min_scalar_type(value) for value in self.values))
        values: np.ndarray = np.asarray(self.values, dtype=dtype)[index]
        return values
