"""The order and direction of the axes that a network was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from voxward.core.errors import UserError

T = TypeVar("T")

_LETTERS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_STORED = "ijk"


@dataclass(frozen=True)
class Axes:
    """How the axes of a network's windows lie among those of the prepared volume.

    Attributes:
        order: For each spatial axis of the network the axis of the prepared volume.
        flips: For each spatial axis of the network whether it runs in the other direction.
        stored: Whether the volume is taken as its file stores it, and is not turned to RAS.
    """

    order: tuple[int, ...]
    flips: tuple[bool, ...]
    stored: bool

    @classmethod
    def of(cls, text: str) -> Axes:
        """Read an orientation.

        Args:
            text: Three letters that say where the axes run to, one of R and L, one of A and P, one of S and I, such as
                RAS; or the letters i, j and k in some order for the axes of the file as they are stored.

        Raises:
            UserError: It is neither.
        """
        if sorted(text) == list(_STORED):
            return cls(tuple(_STORED.index(letter) for letter in text), (False,) * 3, True)
        pairs = [_LETTERS.get(letter, (-1, 1)) for letter in text]
        if sorted(axis for axis, _ in pairs) != [0, 1, 2]:
            raise UserError(
                f"orientation must be three letters such as RAS, LPS or SPL, or i, j and k in some order, got {text!r}"
            )
        return cls(tuple(axis for axis, _ in pairs), tuple(sign < 0 for _, sign in pairs), False)

    def back(self, values: Sequence[T]) -> tuple[T, ...]:
        """Return values of the network's axes in the order of the prepared volume's axes."""
        return tuple(values[self.order.index(axis)] for axis in range(len(self.order)))

    def turned(self, images: Tensor) -> Tensor:
        """Return windows (b, c, ...) of the prepared volume as the network sees them."""
        seen = images.permute(0, 1, *(axis + 2 for axis in self.order))
        return seen.flip(self._flipped) if self._flipped else seen

    def turned_back(self, logits: Tensor) -> Tensor:
        """Return what the network says (b, k, ...) in the axes of the prepared volume."""
        found = logits.flip(self._flipped) if self._flipped else logits
        return found.permute(0, 1, *(self.order.index(axis) + 2 for axis in range(len(self.order))))

    @property
    def _flipped(self) -> list[int]:
        return [n + 2 for n, flip in enumerate(self.flips) if flip]
