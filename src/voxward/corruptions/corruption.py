"""What a corruption is: parameters that are drawn first, and a function that applies them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.corruptions.scan import Scan

Levels = Mapping[str, Any]
"""The numbers of a set for one severity, by name."""
Parameters = Mapping[str, Any]
"""What was drawn, as plain data: the same parameters make the same corruption again."""
Draw = Callable[[Levels, Scan, np.random.RandomState], Parameters]
"""From the levels of a severity, the scan and the source of random numbers to parameters."""
Apply = Callable[[Scan, Parameters], Scan]
"""From a scan to the corrupted one."""


class InapplicableError(UserError):
    """A corruption means nothing on this scan; the message says why."""


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        summary: What it is, in one line.
        draw: Draws its parameters. For what is not spatial the scan has one channel.
        apply: Applies them.
        levels: The names of the numbers that a set must give for each severity or for all.
        spatial: Whether it moves voxels: then all channels and the label are moved by the same map. What is not spatial
            is drawn and applied channel by channel.
    """

    summary: str
    draw: Draw
    apply: Apply
    levels: tuple[str, ...]
    spatial: bool = False


def signed(random: np.random.RandomState, size: int | tuple[int, ...]) -> np.ndarray:
    """Return numbers that are uniform in [-1, 1]."""
    return random.uniform(-1.0, 1.0, size)


def numbers(values: np.ndarray, digits: int = 4) -> Any:
    """Return numbers as plain data, rounded, so that a record holds exactly what was applied."""
    return np.round(np.asarray(values, np.float64), digits).tolist()


def new_seed(random: np.random.RandomState) -> int:
    """Return a seed for a field of random numbers, which is too large to be written down."""
    return int(random.randint(2**31 - 1))
