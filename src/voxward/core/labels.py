"""What the voxels of a label may be called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Undeclared values that an error lists; a file that is no label at all may hold thousands.
_SHOWN = 20


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
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"label names must differ, got {self.names}")
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
            raise ValueError(f"label values {_listed(undeclared)} are not declared; legal: {list(self.values)}")
        return index

    def to_values(self, index: np.ndarray) -> np.ndarray:
        """Class indices -> file values, in the smallest integer type that holds them all."""
        dtype = np.result_type(*(np.min_scalar_type(value) for value in self.values))
        values: np.ndarray = np.asarray(self.values, dtype=dtype)[index]
        return values


def _listed(values: set[int]) -> str:
    more = len(values) - _SHOWN
    return f"{sorted(values)[:_SHOWN]}" + (f" and {more} more" if more > 0 else "")
