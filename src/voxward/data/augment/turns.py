"""Quarter turns of a batch: how often each axis turns is drawn first, then applied; no voxel is interpolated."""

from __future__ import annotations

import torch
from jaxtyping import Integer, Shaped
from torch import Tensor

from voxward.core.recipe import Augmentation

# The plane that turns about each spatial axis, as places from the last.
_PLANES = ((-2, -1), (-1, -3), (-3, -2))


def draw_turns(recipe: Augmentation, batch: int, generator: torch.Generator) -> Integer[Tensor, "b 3"]:
    """Per sample and axis a number of quarter turns, 0 to 3, each as likely; 0 about an axis that the recipe lacks.

    A recipe without any draws nothing from `generator`.
    """
    if not recipe.quarter_turns:
        return torch.zeros(batch, 3, dtype=torch.int64)
    drawn = torch.randint(4, (batch, 3), generator=generator)
    return drawn * torch.tensor([axis in recipe.quarter_turns for axis in range(3)])


def apply_turns(x: Shaped[Tensor, "b ... d h w"], turns: Integer[Tensor, "b 3"]) -> Shaped[Tensor, "b ... d h w"]:
    """Turn every sample about the axes 0, 1 and 2 in this order; half as often where a plane is not square.

    There a quarter turn would change the shape: 1 and 2 become a half turn, 3 becomes none.
    """
    if not turns.any():
        return x
    return torch.stack([_turned(sample, counts) for sample, counts in zip(x, turns.tolist(), strict=True)])


def _turned(sample: Tensor, counts: list[int]) -> Tensor:
    for count, plane in zip(counts, _PLANES, strict=True):
        square = sample.shape[plane[0]] == sample.shape[plane[1]]
        sample = torch.rot90(sample, count if square else 2 * (count in (1, 2)), plane)
    return sample
