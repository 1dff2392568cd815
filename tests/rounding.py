"""How far two correct computations in floating point may differ."""

from __future__ import annotations

import numpy as np
import torch

# Passes over three axes are dot products of some tens of terms, whose roundings add up like a random walk: 3 * sqrt(40)
# halves of a unit in the last place, and as much again for a processor that adds in another order.
_UNITS = 16


def rounding(*values: torch.Tensor | np.ndarray, kind: torch.dtype = torch.float32) -> float:
    """The absolute tolerance for results of `kind` that were computed from values of this size."""
    largest = max(float(np.abs(np.asarray(value)).max()) for value in values)
    return _UNITS * torch.finfo(kind).eps * largest
